"""The documents say what is there: commands, options, files, rooms."""

import json
import re
import shlex
import subprocess

import pytest
from pydantic import BaseModel

from raycifar.commands import analyze, run_sweep
from raycifar.config.settings import TrialSettings
from raycifar.config.sweep_file import load_sweep
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]


def test_the_readmes_first_block_is_the_two_commands():
    assert BLOCKS[0][0] == "sh"
    assert [line.split()[:2] for line in BLOCKS[0][1].splitlines()] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("target", ["demo", "test", "fast", "check", "audit", "fuzz", "load", "browser"])
def test_make_knows_its_targets(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_ci_runs_the_readmes_test_command():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python ")])
def test_the_readmes_commands_parse(command):
    _, script, *arguments = shlex.split(command)
    {"run_sweep.py": run_sweep, "analyze.py": analyze}[script].parse_arguments(arguments)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)", README))))
def test_every_option_that_the_readme_names_exists(option, capsys):
    for command in (run_sweep, analyze):
        with pytest.raises(SystemExit):
            command.parse_arguments(["--help"])
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:sweeps|raycifar|results|notebooks)/[\w./-]+)`", README))))
def test_every_file_that_the_readme_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README))
def test_the_readmes_pictures_are_in_the_repository(picture):
    assert (ROOT / picture).exists()


def test_the_readmes_sweep_file_is_one(tmp_path):
    (example,) = (block for kind, block in BLOCKS if kind == "toml")
    (tmp_path / "mine.toml").write_text(example)
    assert [trial.name for trial in load_sweep(tmp_path / "mine.toml").trials] == [f"transfer-{i}" for i in (1, 2, 3)]


def settings(table, above=""):
    """Every setting's name and default, as the sweep files' reference writes them."""
    for key, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{above}{key}.")
        else:
            yield f"{above}{key}", "required" if field.is_required() else f"`{json.dumps(field.default)}`"


def test_the_reference_of_settings_has_all_of_them_with_their_defaults():
    rows = re.findall(r"^\| `([\w.]+)` \| (\S+) \| \S.*\|$", (ROOT / "docs/sweep-files.md").read_text(), re.MULTILINE)
    assert rows == list(settings(TrialSettings))


def test_every_source_of_a_setting_is_in_the_list_of_sources_and_no_other():
    table, _, sources = (ROOT / "docs/sweep-files.md").read_text().partition("## Sources")
    works = r"[A-ZÄÖÜ]\w+(?: & [A-Z]\w+| et al\.)? (?:19|20)\d\d"
    assert set(re.findall(works, table)) == {line[2:].partition(":")[0] for line in sources.strip().splitlines()}


def test_the_architecture_names_every_package():
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {path.name for path in (ROOT / "raycifar").iterdir() if (path / "__init__.py").exists()}
    assert {package for package in packages if f"`{package}/" not in text} == set()


def test_constraints_are_versions_only():
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    assert {"torch", "ray", "pytest"} <= {line.split("==")[0] for line in lines}
