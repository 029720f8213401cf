"""The documents say what is there: commands, options, links, files, settings, packages, recipes."""

import json
import re
import runpy
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.report import make_report
from raycifar.analysis.results import read_results
from raycifar.commands import analyze, run_sweep
from raycifar.config.settings import TrialSettings
from raycifar.config.sweep_file import load_sweep
from raycifar.search.spec import SearchSpec
from raycifar.storage.records import EpochRecord
from tests.support.paths import QUICK, ROOT

README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.glob("*.md"))]
LINKED = [path for path in sorted(ROOT.glob("*.md")) if path.name != "LOG.md"]  # a log's older entries are history
LINKED += [
    *sorted(DOCS.glob("*.md")),
    *(ROOT / f"{folder}/README.md" for folder in ("results", "sweeps", "tests/samples")),
]
WORDS, LINES = 1300, 130  # of the README, at most

Page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
Linked = pytest.mark.parametrize("page", LINKED, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(page: Path) -> list[tuple[str, str]]:
    """Each fenced block's language and content."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(*pages: Path) -> list[str]:
    """Every command of every `sh` block, without its comment."""
    shells = (block for page in pages for kind, block in blocks(page) if kind == "sh")
    return [line.partition("#")[0].strip() for shell in shells for line in shell.splitlines()]


def section(page: Path, heading: str) -> str:
    """What stands below a heading, down to the next one of its level or above."""
    level = heading.index(" ")
    below = page.read_text().partition(f"\n{heading}\n")[2]
    assert below, f"{page.name} has no {heading}"
    return re.split(rf"^#{{1,{level}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


# Commands and options ------------------------------------------------------------------------------------------------


def test_the_readmes_first_block_is_the_two_commands():
    kind, block = blocks(README)[0]
    assert kind == "sh"
    assert [line.split()[:2] for line in block.splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("target", ["demo", "test", "fast", "check", "audit", "fuzz", "load", "browser", "chaos"])
def test_make_knows_its_targets(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@Page
def test_every_make_target_that_a_page_names_exists(page):
    named = {command.split()[1] for command in commands(page) if command.startswith("make ")}
    named |= set(re.findall(r"`make ([\w./]+)", prose(page)))
    known = set(re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= known


def test_ci_runs_the_readmes_test_command():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")


def test_github_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    versions = [step["with"]["python-version"] for step in steps if "with" in step]
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert [f'requires-python = ">={version}"' in pyproject for version in versions] == [True]


def test_pre_commit_runs_the_linters_and_types_of_make_check():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = repository["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not any(hook["pass_filenames"] for hook in hooks)
    check = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = [line.strip().replace("$(BIN)", ".venv/bin") for line in check[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == [line for line in asked if "audit" not in line]


COMMANDS = sorted(set(commands(*PAGES)))
PARSERS = {
    "python run_sweep.py": run_sweep,
    "python analyze.py": analyze,
    "raycifar run": run_sweep,
    "raycifar analyze": analyze,
}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith(tuple(PARSERS))])
def test_a_documented_command_parses(command):
    first, second, *arguments = shlex.split(command)
    PARSERS[f"{first} {second}"].parse_arguments(arguments)


@Linked
def test_every_module_that_a_page_calls_exists(page):
    called = set(re.findall(r"python -m ((?:benchmarks|tests|raycifar)[\w.]*)", page.read_text()))
    files = {name: (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__main__.py") for name in called}
    assert {name for name, paths in files.items() if not any((ROOT / path).exists() for path in paths)} == set()


# Options of other commands.
OTHERS = {
    "benchmarks.md": {"--markdown", "--json", "--rounds", "--images", "--list"},
    "SECURITY.md": {"--ignore-scripts", "--no-deps"},
}


@Page
def test_every_option_that_a_page_names_exists(page, capsys):
    for command in (run_sweep, analyze):
        with pytest.raises(SystemExit):
            command.parse_arguments(["--help"])
    there = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out))
    there |= OTHERS.get(page.name, set())
    assert set(re.findall(r"`(--[a-z][a-z-]*)", prose(page))) <= there


# Files and links -----------------------------------------------------------------------------------------------------


def links(page: Path) -> list[str]:
    """What the page's links and pictures lead to; not to other sites."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """The page's headings as GitHub names them in addresses."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@Linked
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_every_page_of_the_documents():
    led_to = {link.partition("#")[0] for link in links(README)}
    assert {path.name for path in DOCS.glob("*.md") if f"docs/{path.name}" not in led_to} == set()


@Page
def test_every_file_that_a_page_names_exists(page):
    named = set(re.findall(r"`((?:sweeps|raycifar|results|notebooks|tests|docs|benchmarks)/[\w./-]+)`", prose(page)))
    missing = {path for path in named if "NAME" not in path and not (ROOT / path).exists()}
    assert missing <= MADE


@pytest.mark.parametrize("picture", [p for p in links(README) if p.endswith((".png", ".svg"))])
def test_the_readmes_pictures_are_in_the_repository(picture):
    tracked = subprocess.run(["git", "ls-files", picture], cwd=ROOT, check=True, capture_output=True, text=True)
    assert tracked.stdout.strip() == picture


def test_the_picture_of_the_terminal_is_drawn_from_the_results(tmp_path):
    runpy.run_path(str(DOCS / "pictures" / "terminal.py"))["main"](tmp_path)
    drawn, kept = ((folder / "terminal.svg").read_text() for folder in (tmp_path, DOCS / "pictures"))
    assert shown(drawn) == shown(kept)


def shown(svg: str) -> list[str]:
    """The texts of the picture."""
    return re.findall(r"<text [^>]*>([^<]+)</text>", svg)


def test_no_document_names_a_place_that_has_moved():
    pages = [path for path in {*PAGES, *LINKED} if path.name != "CHANGELOG.md"]
    sources = [path for folder in ("raycifar", "benchmarks", "sweeps") for path in (ROOT / folder).rglob("*.[pt]*")]
    moved = re.compile(r"\b(?:ARCHITECTURE|BENCHMARKS|RELIABILITY)\.md")
    assert [str(path) for path in (*pages, *sources) if path.suffix != ".pyc" and moved.search(path.read_text())] == []


# The README ----------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    text = README.read_text()
    assert len(text.split()) <= WORDS
    assert len(text.splitlines()) <= LINES


@pytest.mark.parametrize("page", [README, DOCS / "sweep-files.md"], ids=lambda path: path.name)
def test_the_documented_sweep_file_is_one(page, tmp_path):
    (example,) = (block for kind, block in blocks(page) if kind == "toml")
    (tmp_path / "mine.toml").write_text(example)
    assert [trial.name for trial in load_sweep(tmp_path / "mine.toml").trials] == [f"transfer-{i}" for i in (1, 2, 3)]


def test_the_readmes_figures_are_those_of_the_results_page():
    answer = section(README, "## The answer")
    figures = re.findall(r"\d+\.\d+ %|\d+\.\d+ to \d+\.\d+", answer)
    assert len(figures) == 15
    assert {figure for figure in figures if figure not in (DOCS / "results.md").read_text()} == set()


# The reference of settings -------------------------------------------------------------------------------------------


def settings(table, above=""):
    """Every setting's name and default, as the sweep files' reference writes them."""
    for key, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{above}{key}.")
        else:
            yield f"{above}{key}", "required" if field.is_required() else f"`{json.dumps(field.default)}`"


def test_the_reference_of_settings_has_all_of_them_with_their_defaults():
    rows = re.findall(r"^\| `([\w.]+)` \| (\S+) \| \S.*\|$", (DOCS / "sweep-files.md").read_text(), re.MULTILINE)
    assert rows == list(settings(TrialSettings))


def test_every_source_of_a_setting_is_in_the_list_of_sources_and_no_other():
    table, _, sources = (DOCS / "sweep-files.md").read_text().partition("## Sources")
    works = r"[A-ZÄÖÜ]\w+(?: & [A-Z]\w+| et al\.)? (?:19|20)\d\d"
    assert set(re.findall(works, table)) == {line[2:].partition(":")[0] for line in sources.strip().splitlines()}


def test_every_sweep_file_is_described():
    described = set(re.findall(r"^\| `sweeps/([\w.]+)` \|", (DOCS / "sweep-files.md").read_text(), re.MULTILINE))
    assert described == {path.name for path in (ROOT / "sweeps").glob("*.toml")}


def test_the_reference_of_a_search_has_its_keys_and_defaults():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", (DOCS / "search.md").read_text(), re.MULTILINE)
    keys = {key: field for key, field in SearchSpec.model_fields.items() if key not in ("name", "trial")}
    assert dict(rows) == {key: "required" if f.is_required() else str(f.default) for key, f in keys.items()}


# The analysis, the events --------------------------------------------------------------------------------------------


def test_the_analysis_page_names_every_table_and_figure_of_a_sweep():
    results = read_results(QUICK)
    predictions = read_predictions(results)
    tables = section(DOCS / "analysis.md", "## Tables of one sweep")
    figures = section(DOCS / "analysis.md", "## Figures of one sweep")
    made = {table.key for table in make_report(results, predictions).whole_tables}
    assert made == set(re.findall(r"^\| `([\w-]+)` \|", tables, re.MULTILINE))
    patterns = [re.sub("TRIAL|ARM", r"[\\w-]+", name) for name in re.findall(r"`([\w-]+)`", figures)]
    drawn = [drawing.name for drawing in all_figures(results, predictions)]
    assert [name for name in drawn if not any(re.fullmatch(pattern, name) for pattern in patterns)] == []


def test_the_events_that_the_documents_show_have_the_fields_of_the_records():
    (example,) = (block for kind, block in blocks(DOCS / "running.md") if kind == "json")
    events = {event["event"]: set(event) - {"event", "at", "trial"} for event in map(json.loads, example.splitlines())}
    assert events["epoch"] == {field.name for field in fields(EpochRecord)}
    assert list(events) == ["plan", "state", "epoch", "end"]


# The architecture ----------------------------------------------------------------------------------------------------

ARCHITECTURE = DOCS / "architecture.md"


def test_the_architecture_names_every_package_and_every_module_beside_them():
    text = section(ARCHITECTURE, "## Packages and the direction of imports")
    inside = section(ARCHITECTURE, "## Inside the packages")
    packages = {path.parent.name for path in (ROOT / "raycifar").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "raycifar").glob("*.py")} - {"__init__"}
    assert {package for package in packages if f"| `{package}/` |" not in text} == set()
    assert {package for package in packages if f"### `{package}/`" not in inside} == set()
    assert {module for module in modules if f"| `{module}` |" not in text} == set()


def test_the_architecture_names_no_package_or_module_that_is_not_there():
    text = section(ARCHITECTURE, "## Packages and the direction of imports")
    named = [f"{name}{slash or '.py'}" for name, slash in re.findall(r"^\| `(\w+)(/?)` \|", text, re.MULTILINE)]
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "raycifar" / name).exists()] == []


PACKAGES = sorted(path.parent.name for path in (ROOT / "raycifar").glob("*/__init__.py"))


@pytest.mark.parametrize("package", sorted({*PACKAGES} - {"analysis"}))
def test_the_architecture_names_every_module_of_a_package(package):
    text = section(ARCHITECTURE, f"### `{package}/`")
    modules = {path.stem for path in (ROOT / "raycifar" / package).glob("*.py")} - {"__init__"}
    assert {module for module in modules if f"`{module}`" not in text} == set()


def test_what_is_long_has_its_reason_on_the_page():
    text = section(ARCHITECTURE, "## Files over 300 lines, packages over 15 files")
    files = [path for path in (ROOT / "raycifar").rglob("*.py") if len(path.read_text().splitlines()) > 300]
    folders = {path.parent for path in (ROOT / "raycifar").rglob("*.py")}
    full = [f"{folder.name}/" for folder in folders if len(list(folder.glob("*.py"))) > 16]  # with its __init__
    assert [name for name in [*(path.stem for path in files), *full] if f"`{name}`" not in text] == []


RECIPES = ["a data set", "a network", "a tracker", "a figure"]
MADE = {"raycifar/tracking/lines.py"}  # by the tracker's recipe, which tests/tracking/test_recipe.py follows


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_only_files_that_exist_or_that_it_creates(recipe):
    named = re.findall(r"`((?:raycifar|docs|tests)/[\w./-]+)`", section(ARCHITECTURE, f"### Add {recipe}"))
    assert len(named) >= 2
    assert [path for path in named if not ("NAME" in path or path in MADE or (ROOT / path).exists())] == []


def test_constraints_are_versions_only():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert {"torch", "ray", "pytest"} <= {line.split("==")[0] for line in lines}
