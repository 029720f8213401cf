"""The command line of run_sweep.py: what it refuses, plans and prints, and its exit status."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import raycifar.sweep
import run_sweep
from raycifar.records import SweepFolder
from raycifar.spec import load_sweep
from raycifar.trial import Assets
from tests.conftest import SAMPLE
from tests.sweep_folders import sweep_spec, write_sweep

ROOT = Path(__file__).parent.parent
QUICK = str(ROOT / "sweeps/quick.toml")
VGG = str(ROOT / "sweeps/vgg.toml")


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def neither_gpus_nor_ray_nor_downloads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(raycifar.sweep, "_on_ray", lambda *_: pytest.fail("started Ray"))
    monkeypatch.setattr(raycifar.sweep, "fetch_assets", lambda *_: pytest.fail("reached for the data"))


@pytest.fixture
def command(capsys, storage):
    """Calls run_sweep.py in this process; returns its exit status, what it printed, and its errors."""
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        status = run_sweep.main([f"--storage={storage}", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield call
    signal.signal(signal.SIGTERM, before)


BAD = {
    "no such file": (["nowhere.toml"], r"nowhere\.toml: no such file"),
    "a folder": ([str(ROOT)], "cannot be read"),
    "no TOML": ([str(ROOT / "run_sweep.py")], "not valid TOML"),
    "unknown key": ([QUICK, "--set", "epoch=3"], r"--set epoch=3: .*did you mean 'epochs'\?"),
    "unknown value": ([QUICK, "--set", "precision=fp8"], "precision"),
    "no value": ([QUICK, "--set", "epochs"], "expected key=value"),
    "a value that is none": ([QUICK, "--set", "epochs=0"], r"--set epochs=0.*epochs = 0"),
    "unknown trial": ([QUICK, "--only", "transfer-4"], r"--only transfer-4: no such trial, did you mean"),
    "a name that is a path": ([QUICK, "--name", "../elsewhere"], "--name '../elsewhere': a name is"),
    "an empty name": ([QUICK, "--name="], "--name '': a name is"),
    "storage that is an address": ([QUICK, "--storage", "s3://bucket/results"], "--storage 's3://.*expected a folder"),
    "storage of nobody": ([QUICK, "--storage", "~nobody-at-all/results"], "--storage '~nobody-at-all/results'"),
    "storage without a name": ([QUICK, "--storage="], "--storage '': expected a folder"),
    "a storage that no path can be": ([QUICK, "--storage", "a\0b"], "--storage .*expected a folder"),
    "storage in a file": ([QUICK, "--storage", __file__], "is a file: choose another --name or --storage"),
    "a file name too long": ([QUICK, "--storage", "/tmp/" + "a" * 300], "choose another --storage"),
    "GPUs that are not there": ([QUICK, "--local", "--gpus=4"], "--gpus 4: .* sees 0 GPUs: type --gpus 0 .*"),
    "several workers in one process": ([QUICK, "--local", "--workers-per-trial=2"], "leave out --local"),
    "Ray and no Ray": ([QUICK, "--local", "--address=auto"], "leave out --local"),
    "more workers than GPUs": ([VGG, "--dry-run", "--gpus=2", "--workers-per-trial=4"], "raise --gpus"),
    "more workers than images": (
        [QUICK, "--dry-run", "--gpus=99", "--workers-per-trial=99"],
        "its smallest batch has 56 images",
    ),
    "two ways to share": ([VGG, "--dry-run", "--gpus=4", "--workers-per-trial=2", "--trials-per-gpu=2"], "exclude"),
}


@pytest.mark.parametrize(("arguments", "line"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(command, storage, arguments, line):
    status, printed, errors = command(*arguments)
    assert (status, printed) == (2, "")
    assert re.match(f"run_sweep.py: .*{line}", errors)
    assert errors.count("\n") == 1
    assert not storage.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpus=-1"],
        ["--gpus=two"],
        ["--gpus=1.0"],
        ["--trials-per-gpu=0"],
        ["--workers-per-trial="],
        ["--nonsense"],
        ["--fre"],
    ],
    ids=" ".join,
)
def test_what_argparse_refuses_has_the_same_exit_status(command, storage, arguments):
    with pytest.raises(SystemExit) as refused:
        command(QUICK, *arguments)
    assert refused.value.code == 2
    assert not storage.exists()


def test_a_folder_of_other_numbers_is_refused_in_one_line(command, storage):
    storage.mkdir()
    write_sweep(storage / "quick")
    status, _, errors = command(QUICK, "--local")
    assert (status, errors.count("\n")) == (2, 1)
    assert re.match(r"run_sweep\.py: .*quick: trial .*--name OTHER.*--fresh", errors)


def test_a_dry_run_shows_the_plan_and_makes_nothing(command, storage):
    status, printed, errors = command(VGG, "--dry-run", "--gpus=4")
    assert (status, errors) == (0, "")
    assert re.findall(r"^ *(scratch|transfer-\d) ", printed, re.MULTILINE) == [
        "scratch",
        "transfer-1",
        "transfer-2",
        "transfer-3",
    ]
    assert printed.endswith("4 trials, 4 at once, on 4 GPUs\n")
    assert not storage.exists()


def test_a_dry_run_with_local_plans_one_trial_at_a_time(command):
    assert "4 trials, 1 at once, on the CPU" in command(QUICK, "--dry-run", "--local")[1]


def test_settings_and_choices_show_in_the_plan(command):
    _, printed, _ = command(QUICK, "--dry-run", "--gpus=0", "--only=scratch", "--set=epochs=7", "--name=other")
    assert re.search(r"scratch +random, bn +1 +7 +3,000 +500 held out", printed)
    assert "transfer" not in printed
    assert "results/other" in printed.replace("\n", "")


def test_a_finished_sweep_has_nothing_to_do_and_prints_its_results_and_what_is_next(command, storage):
    arms = {"a": (2, 3)}
    path = storage / "[/q] :x:" / ("long" * 30)  # rich would take this for markup, and break the line
    path.mkdir(parents=True)
    write_sweep(path / "q", arms)
    sweep = storage / "q.toml"
    sweep.write_text(
        '[[trials]]\nname = "a"\nrepeats = 2\nepochs = 3\nmodel = { weights = "random" }\n',
    )
    assert load_sweep(sweep) == sweep_spec("q", arms, {})
    status, printed, _ = command(str(sweep), f"--storage={path}")
    assert status == 0
    assert f"Nothing to do: all 2 trials in {path / 'q'} have finished." in printed
    assert re.search(r"a-1 +done +3 ", printed)
    assert printed.splitlines()[-1] == f"Next: python analyze.py {shlex.quote(str(path / 'q'))}"


def test_a_sweep_with_an_unfinished_trial_ends_with_status_1(command, monkeypatch):
    monkeypatch.setattr(raycifar.sweep, "run_sweep", lambda *_: False)
    status, printed, _ = command(QUICK)
    assert status == 1
    assert re.search(r"scratch +not finished +0 of 3", printed)


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_interrupted_call_ends_with_status_130_and_the_line_that_resumes(command, monkeypatch):
    monkeypatch.setattr(raycifar.sweep, "run_sweep", interrupt)
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", "my sweep.toml", "--only=scratch"])
    status, _, errors = command(QUICK)
    assert status == 130
    assert errors == "\nInterrupted. To go on: python run_sweep.py 'my sweep.toml' --only=scratch\n"


def test_a_call_that_is_told_to_end_is_interrupted_too(command, monkeypatch):
    monkeypatch.setattr(raycifar.sweep, "run_sweep", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert command(QUICK)[0] == 130


@pytest.mark.parametrize(
    ("where", "line"),
    [("_run_locally", "python run_sweep.py --local"), ("opened", "python run_sweep.py --local --fresh")],
)
def test_the_line_that_resumes_does_not_start_over_what_has_begun(command, storage, monkeypatch, where, line):
    storage.mkdir()
    write_sweep(storage / "quick")
    monkeypatch.setattr(raycifar.sweep, "fetch_assets", lambda *_: Assets(SAMPLE, None))
    monkeypatch.setattr(raycifar.sweep, where, interrupt)
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", "--local", "--fresh"])
    status, _, errors = command(QUICK, "--local", "--fresh", "--only=scratch")
    assert status == 130
    assert errors.endswith(f"To go on: {line}\n")


def in_a_process(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_help_starts_at_once_for_it_imports_nothing_heavy():
    loaded = in_a_process(
        "import sys, contextlib, run_sweep\n"
        "with contextlib.suppress(SystemExit): run_sweep.main(['--help'])\n"
        "print('loaded:', sorted({'torch', 'ray', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    assert loaded.startswith("usage: run_sweep.py")
    assert loaded.endswith("loaded: []\n")


def test_help_names_every_option_and_exit_status(capsys):
    with pytest.raises(SystemExit):
        run_sweep.main(["--help"])
    printed = capsys.readouterr().out
    options = (
        "--gpus --trials-per-gpu --workers-per-trial --name --storage --only --set --local --dry-run --address --fresh"
    )
    assert [option for option in options.split() if option not in printed] == []
    assert "exit status: 0 every trial finished, 1 some did not, 2 bad input, 130 interrupted" in printed


def test_a_wrong_sweep_file_is_refused_before_anything_heavy_is_imported():
    loaded = in_a_process(
        "import sys, run_sweep\n"
        "status = run_sweep.main(['nowhere.toml'])\n"
        "print(status, sorted({'torch', 'ray', 'rich'} & set(sys.modules)))"
    )
    assert loaded == "2 []\n"


@pytest.mark.assets
def test_ctrl_c_on_a_real_sweep_and_the_printed_line_resumes_it(storage):
    sizes = [f"--set=data.{split}_images=100" for split in ("train", "holdout", "test")]
    arguments = ["sweeps/quick.toml", "--local", "--gpus=0", "--only=scratch", f"--storage={storage}", *sizes]
    folder = SweepFolder(storage / "quick")
    with subprocess.Popen(
        [sys.executable, "run_sweep.py", *arguments, "--fresh"], cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as running:
        while "epoch 1/3" not in (line := running.stdout.readline()):
            assert line, running.stderr.read()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert 1 <= len(folder.trial("scratch").history().epochs) < 3

    python, *resume = shlex.split(errors.splitlines()[-1].partition("To go on: ")[2])
    assert python == "python"
    subprocess.run([sys.executable, *resume], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert [record.epoch for record in folder.trial("scratch").history().epochs] == [1, 2, 3]
    assert [call.exit_status for call in folder.invocations()] == [130, 0]
