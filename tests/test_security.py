"""What SECURITY.md promises: a hostile folder runs nothing, and records hold no secret."""

import ast
import json
import re
import shutil
import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from raycifar.config.names import SpecError
from raycifar.config.sweep_file import load_sweep
from raycifar.execution.workspace import as_recorded
from raycifar.export import model_card
from raycifar.networks.registry import make_network
from raycifar.trained_model import TrainedModel
from tests.support.paths import ROOT
from tests.support.sweep_folders import trial_spec, write_failure, write_sweep

MARK = "document.documentElement.setAttribute('owned', 'yes')"
PAYLOAD = (
    f'\x1b]0;owned\x07\x1b[2J<script>{MARK}</script>"\'><img src=x onerror="{MARK}"><svg onload="{MARK}"></svg>'
    "</pre></td></title></style>{{ 7 * 7 }}{% raise %}\n# heading\n| cell |\n[link](javascript:alert(1))`code`\r\u202e"
)


def poisoned(data):
    """Every text in a record, names of versions included, replaced by the payload."""
    if isinstance(data, dict):
        return {PAYLOAD if key in ("torch", "ray", "python") else key: poisoned(value) for key, value in data.items()}
    if isinstance(data, list):
        return [poisoned(item) for item in data]
    return PAYLOAD if isinstance(data, str) else data


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """The analysis of a sweep in whose records every text that is not checked is hostile."""
    sweep = write_sweep(tmp_path_factory.mktemp("hostile") / "sweep", {"transfer": (2, 3), "scratch": (1, 3)})
    write_failure(sweep, "scratch", "boom")
    for path in sweep.path.rglob("*.json"):
        data = json.loads(path.read_text())
        kept = {key: data[key] for key in ("spec", "name") if key in data} if isinstance(data, dict) else {}
        path.write_text(json.dumps(poisoned(data) | kept if kept else poisoned(data)))
    done = subprocess.run(
        [sys.executable, "analyze.py", str(sweep.path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return sweep.path / "analysis", done.stdout


def page_after_loading(page):
    """The document as Chromium sees it once everything in it has run."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent}/profile"]
    command = [chromium, *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_a_hostile_sweep_runs_nothing_in_a_browser(analysed, tmp_path):
    control = tmp_path / "control.html"
    control.write_text(f"<p>{PAYLOAD}</p>")
    assert re.match(r"<html[^>]* owned=", page_after_loading(control))
    shown = page_after_loading(analysed[0] / "report.html")
    assert "&lt;script&gt;" in shown
    assert not re.search(r"<html[^>]* owned=|<img src=.?x|<svg onload", shown)


@pytest.mark.slow
def test_a_script_in_the_page_would_not_run_either(analysed, tmp_path):
    page = (analysed[0] / "report.html").read_text()
    assert page.count("<main") == 1
    for name, policy in (("with", page), ("without", page.replace("Content-Security-Policy", "None"))):
        script = f"<script>{MARK}</script><img src='x' onerror=\"{MARK}\"><main"
        (tmp_path / f"{name}.html").write_text(policy.replace("<main", script))
    assert re.search(r"<html[^>]* owned=", page_after_loading(tmp_path / "without.html"))
    assert not re.search(r"<html[^>]* owned=", page_after_loading(tmp_path / "with.html"))


def test_a_hostile_sweep_is_plain_text_in_the_model_card(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", {"scratch": (1, 3)})
    for path, kept in (
        (sweep.path / "sweep.json", ("spec", "name")),
        (sweep.path / "scratch/summary.json", ("arm", "trial")),
    ):
        data = json.loads(path.read_text())
        path.write_text(json.dumps(poisoned(data) | {key: data[key] for key in kept}))
    spec, summary = trial_spec(sweep, "scratch"), sweep.trial("scratch").summary()
    network = make_network(spec.model, spec.data.facts)
    card = model_card(TrainedModel(network, spec, summary), sweep, (256, 1e-6), 1)
    assert "owned" in card
    assert not re.search(r"<script|<img|<svg|(?<!\\)\]\(javascript|^# heading|^\| cell", card, re.MULTILINE)
    assert {c for c in card if not c.isprintable()} == {"\n"}


@pytest.mark.slow
def test_a_hostile_sweep_does_not_steer_the_terminal(analysed):
    assert "owned" in analysed[1]
    assert {c for c in analysed[1] if not c.isprintable()} == {"\n"}


@pytest.mark.slow
def test_a_hostile_sweep_is_plain_text_in_markdown(analysed):
    text = (analysed[0] / "report.md").read_text()
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert "owned" in outside_code
    assert not re.search(r"<script|<img|<svg|(?<!\\)\]\(javascript|^# heading|^\| cell", outside_code, re.MULTILINE)
    assert {c for c in text if not c.isprintable()} == {"\n"}


@pytest.mark.parametrize(
    ("argument", "recorded"),
    [
        ("--address=ray://ann:hunter2@head:10001", "'--address=ray://***@head:10001'"),
        ("https://hunter2@example.org/x", "'https://***@example.org/x'"),
        ("sweeps/vgg.toml", "sweeps/vgg.toml"),
        ("results/a@b", "results/a@b"),
        ("--address=ray://ann:hun/ter2@head:1", "'--address=ray://***@head:1'"),
        ("--address=ray://ann:hun@ter2@head:1", "'--address=ray://***@head:1'"),
        ("ann:hunter2@head:6379", "'***@head:6379'"),
        ("--address=hunter2@head:6379", "'--address=***@head:6379'"),
        ("--set=note=https://ann:hun=ter2@head", "'--set=note=https://***@head'"),
        ("model.weights='ray://ann:hunter2@head'", """'model.weights='"'"'ray://***@head'"'"''"""),
        ("--set=optimizer.lr=0.1", "--set=optimizer.lr=0.1"),
    ],
)
def test_a_password_in_an_address_is_not_recorded(argument, recorded):
    assert as_recorded(["python", "run_sweep.py", argument]) == f"python run_sweep.py {recorded}"


SECRETS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6).filter(lambda text: text[-1] != "@")


@given(
    prefix=st.sampled_from(["", "--address=", "--set=", "note=", "--set=a.b=", "--address ", "--set a="]),
    scheme=st.sampled_from(["", "ray://", "https://", "postgresql+psycopg2://"]),
    secret=SECRETS,
)
@example(prefix="", scheme="", secret="a/b:c@d=e")
def test_no_secret_of_an_address_is_recorded_whatever_signs_it_holds(prefix, scheme, secret):
    words = prefix.split(" ") if " " in prefix else [prefix]
    recorded = as_recorded(["run_sweep.py", *words[:-1], f"{words[-1]}{scheme}ann:{secret}@head:6379"])
    recorded = recorded.replace("ann://***", "***")  # where the secret begins "//", the user looks like a scheme
    assert recorded == as_recorded(["run_sweep.py", *words[:-1], f"{words[-1]}{scheme}ann:other@head:6379"])
    assert "***@head:6379" in recorded


def test_a_sweep_whose_trial_is_markup_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "s.toml").write_text('[[trials]]\nname = "<script>"\nepochs = 1\nmodel = { weights = "random" }\n')
    with pytest.raises(SpecError, match="a name is 1 to 64 letters"):
        load_sweep(tmp_path / "s.toml")


def modules():
    return [*sorted((ROOT / "raycifar").rglob("*.py"))]


def calls(path):
    """Every call in a module, as (name, keyword arguments as text)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_nothing_is_unpickled_unchecked_and_no_shell_is_started(path):
    for name, options in calls(path):
        assert name not in ("eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads"), name
        assert options.get("shell", "False") == "False", name
        if name == "torch.load":
            assert options.get("weights_only") == "True"
            # Its reader runs no code, but does much else: the pickle is gone through before, or known by its digest.
            assert path.name == "packages.py" or "check_pickles" in {called for called, _ in calls(path)}
        if name == "np.load":
            assert options.get("allow_pickle", "False") == "False"
        assert not name.endswith((".extractall", "tar.extract")), name


# Calls that write or delete by a path, and the modules that may: in the cache, in scratch folders, and the folder of
# results itself, which the user named. All else goes through storage/beneath.py.
BY_PATH = re.compile(
    r".*\.(write_text|write_bytes|unlink|rmdir|rename|mkdir|touch|symlink_to|hardlink_to)"
    r"|os\.(replace|rename|remove|unlink|rmdir|mkdir|makedirs|symlink|link|truncate|chmod)|shutil\.(rmtree|move|copy|copy2|copyfile|copytree)"
)
MAY_WRITE_BY_PATH = {
    "storage/beneath.py": r".*",
    "storage/asset_cache.py": r"path\.(parent\.mkdir|unlink)|shutil\.rmtree|draft\.write_bytes|os\.replace",
    "storage/data_file.py": r"draft\.rename",
    "data/own/images.py": r"index\.(parent\.mkdir|write_text)|os\.replace",
    "data/given.py": r"folder\.mkdir|os\.replace",
    "data/published.py": r"(root\.parent|inner)\.mkdir|os\.replace",
    "execution/shared_code.py": r"target\.(parent\.mkdir|write_bytes)|shutil\.rmtree",
    "networks/weights.py": r"requirements\.write_text",
    "execution/ray_private/start.py": r"path\.parent\.mkdir",
    "export.py": r"(weights|card)\.write_(bytes|text)",
    "execution/workspace.py": r"folder\.path\.(mkdir|rename)",
}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_nothing_in_a_folder_of_results_is_written_or_deleted_by_its_path(path):
    allowed = MAY_WRITE_BY_PATH.get(path.relative_to(ROOT / "raycifar").as_posix(), "")
    found = [name for name, _ in calls(path) if BY_PATH.fullmatch(name)]
    assert [name for name in found if not re.fullmatch(allowed, name)] == []
