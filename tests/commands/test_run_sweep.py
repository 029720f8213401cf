"""The command line of run_sweep.py: what it refuses, plans and prints, and its exit status."""

import gzip
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import raycifar.execution.local
import raycifar.execution.runners
import raycifar.execution.sweep
from raycifar.commands import run_sweep
from raycifar.config.sweep_file import load_sweep
from raycifar.data import cifar10
from raycifar.networks import weights
from raycifar.storage import download
from raycifar.storage.folders import SweepFolder
from raycifar.training.trial import Assets
from tests.support.asset_files import small_trunk, vgg16_zeros
from tests.support.hostile import NO_FILE, everything, nothing_waits_for_ever  # noqa: F401
from tests.support.paths import ROOT, SAMPLE
from tests.support.sweep_folders import sweep_spec, write_sweep

QUICK = str(ROOT / "sweeps/quick.toml")
VGG = str(ROOT / "sweeps/vgg.toml")
FETCH = raycifar.execution.runners.fetch_assets


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "results"


@pytest.fixture(autouse=True)
def neither_gpus_nor_ray_nor_downloads(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", lambda *_: pytest.fail("started Ray"))
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: pytest.fail("reached for the data"))


@pytest.fixture
def command(capsys, storage, no_leaving):
    """Calls run_sweep.py in this process; returns its exit status, what it printed, and its errors."""

    def call(*arguments):
        status = run_sweep.main([f"--storage={storage}", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


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
    "a plan in a file": ([QUICK, "--dry-run", "--storage", __file__], "is a file: choose another --name or --storage"),
    "several GPUs in one process": (
        [QUICK, "--local", "--gpus=4"],
        "--local --gpus 4: one GPU at most: type --gpus 1",
    ),
    "a plan of several": (
        [QUICK, "--dry-run", "--local", "--gpus=4"],
        "--local --gpus 4: one GPU at most: type --gpus 1",
    ),
    "a file name too long": ([QUICK, "--storage", "/tmp/" + "a" * 300], "choose another --storage"),
    "GPUs that are not there": ([QUICK, "--local", "--gpus=1"], "--gpus 1: .* sees 0 GPUs: type --gpus 0 .*"),
    "storage that is no UTF-8": ([QUICK, "--storage", "a\udcffb"], r"--storage 'a\\udcffb': expected a folder"),
    "storage with a line break": ([QUICK, "--storage", f"{__file__}/a\nb"], "is a file: choose another"),
    "a device": (["/dev/zero"], "/dev/zero: cannot be read .not a file but a pipe, a device or a socket"),
    "a name of 300 letters": ([QUICK, "--name", "a" * 300], "--name 'aaa.*': a name is"),
    "a name with a line break": ([QUICK, "--name", "a\nb"], r"--name 'a\\nb': a name is"),
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
    ("arguments", "line"),
    [
        (["--gpus=-1"], "argument --gpus: '-1': expected a whole number from 0 up"),
        (["--gpus=two"], "argument --gpus: 'two': expected a whole number"),
        (["--gpus=1.0"], "argument --gpus: '1.0'"),
        (["--trials-per-gpu=0"], "argument --trials-per-gpu: '0': expected a whole number from 1 up"),
        (["--workers-per-trial="], "argument --workers-per-trial: ''"),
        (["--nonsense"], r"unrecognized arguments: --nonsense (?=\(--help)"),
        (["--nonsense\nmore"], r"unrecognized arguments: --nonsense\\nmore"),
        (["--dry-ru"], "unrecognized arguments: --dry-ru, did you mean '--dry-run'?"),
        (["more", "--stroage", "/tmp"], "unrecognized arguments: more --stroage /tmp, did you mean '--storage'?"),
        (["-gpus", "4"], "unrecognized arguments: -gpus 4, did you mean '--gpus'?"),
        (["--stroage=/tmp"], "unrecognized arguments: --stroage=/tmp, did you mean '--storage'?"),
        (["--log=tensorboard"], "argument --log: invalid choice: 'tensorboard'"),
        (["--quiet", "--verbose"], "argument --verbose: not allowed with argument --quiet"),
    ],
)
def test_what_argparse_refuses_is_one_line_with_the_same_exit_status(command, storage, capsys, arguments, line):
    with pytest.raises(SystemExit) as refused:
        command(QUICK, *arguments)
    assert refused.value.code == 2
    errors = capsys.readouterr().err
    assert re.match(rf"run_sweep\.py: {line}.*\(--help shows what there is\)\n\Z", errors)
    assert not storage.exists()


def instead(name, what):
    """Puts something else in the place of a file, or of a folder."""

    def damage(folder):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
        NO_FILE[what](folder / name)

    return damage


def linked(name):
    """Puts a link to a folder elsewhere, which has the same content, in the place of one."""

    def damage(folder):
        elsewhere = (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(elsewhere, target_is_directory=True)

    return damage


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


BAD_FOLDERS = {
    "other numbers": (write_sweep, r"q: trial .* in this sweep.*--name OTHER.*--fresh"),
    "somebody else's": (lambda folder: (folder.mkdir(), (folder / "photo.png").touch()), "holds something else"),
    "a file": (Path.touch, "q: is a file: choose another"),
    "a pipe": (os.mkfifo, "q: is a file: choose another"),
}


def hard_linked(name):
    """Gives a file outside a second name among the results."""

    def damage(folder):
        (folder.parent / "thesis.tex").write_text("mine")
        (folder / name).unlink(missing_ok=True)
        os.link(folder.parent / "thesis.tex", folder / name)

    return damage


def a_checkpoint_that_is_a_link(folder):
    (folder / "a-1" / "checkpoint_000001").mkdir()
    linked("a-1/checkpoint_000001")(folder)


BAD_RECORDS = {
    "sweep.json cut short": (write("sweep.json", "{"), "sweep.json: not valid JSON"),
    "sweep.json of another version": (write("sweep.json", '{"name": 3}'), "sweep.json: not a SweepRecord"),
    "a pipe for sweep.json": (instead("sweep.json", "a pipe"), "sweep.json: cannot be read .not a file but a pipe"),
    "a device for sweep.json": (instead("sweep.json", "a device without end"), "sweep.json: cannot be read"),
    "a summary cut short": (write("a-1/summary.json", '{"trial"'), "a-1/summary.json: not valid JSON"),
    "text for an accuracy": (write("a-1/summary.json", '{"test_accuracy": "high"}'), "test_accuracy = 'high'"),
    "a pipe for a summary": (instead("a-1/summary.json", "a pipe"), "a-1/summary.json: cannot be read"),
    "a link to itself for a trial": (
        instead("a-1", "a link to itself"),
        "a-1: expected a trial's own folder and is a link",
    ),
    "a link to another folder for a trial": (linked("a-1"), "a-1: expected a trial's own folder and is a link: move"),
    "a pipe for a trial": (instead("a-1", "a pipe"), "a-1: expected a trial's own folder: move it away"),
    "a link for a checkpoint": (a_checkpoint_that_is_a_link, "checkpoint_000001: is a link, expected a .*of its own"),
    "a folder for predictions": (
        lambda folder: (folder / "a-1" / "predictions.npz").mkdir(),
        "a-1/predictions.npz: is a folder or leads to one, expected a file",
    ),
    "a link for the lock": (
        lambda folder: (folder / "sweep.lock").symlink_to(folder.parent / "new"),
        "sweep.lock: is a link to another file: remove it",
    ),
    "a second name for the lock": (hard_linked("sweep.lock"), "sweep.lock: is a link to another file: remove it"),
    "a folder for the lock": (lambda folder: (folder / "sweep.lock").mkdir(), "q: cannot be written .*sweep.lock"),
}


@pytest.fixture
def finished_sweep(tmp_path):
    """A sweep file whose folder in `storage` holds its two finished trials."""
    sweep = tmp_path / "q.toml"
    sweep.write_text('[[trials]]\nname = "a"\nrepeats = 2\nepochs = 3\nmodel = { weights = "random" }\n')
    assert load_sweep(sweep) == sweep_spec("q", {"a": (2, 3)}, {})
    return str(sweep)


@pytest.mark.parametrize(("make", "line"), (BAD_FOLDERS | BAD_RECORDS).values(), ids=BAD_FOLDERS | BAD_RECORDS)
def test_a_folder_that_cannot_be_this_sweeps_is_refused_and_left_as_it_is(command, storage, finished_sweep, make, line):
    storage.mkdir()
    if (make, line) in BAD_RECORDS.values():
        write_sweep(storage / "q", {"a": (2, 3)})
    make(storage / "q")
    before = everything(storage)
    may_be_planned = re.search("lock|summary|accuracy", line)  # the plan says which trial's files cannot be read
    for runner in ("--local", "--gpus=0", *([] if may_be_planned else ["--dry-run"])):
        status, printed, errors = command(finished_sweep, runner)
        assert (status, printed) == (2, "")
        assert re.match(f"run_sweep.py: {storage}.*{line}", errors)
        assert errors.count("\n") == 1
    assert everything(storage) == before


@pytest.mark.parametrize("name", ["mlflow.db", "mlflow.db-wal", "wandb"])
def test_what_a_tracker_would_write_through_is_refused(command, storage, finished_sweep, monkeypatch, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    storage.mkdir()
    write_sweep(storage / "q", {"a": (2, 3)})
    (storage / "q" / name).symlink_to(storage)
    before = everything(storage)
    status, _, errors = command(finished_sweep, "--local", f"--log={name.partition('.')[0]}")
    assert (status, errors.count("\n")) == (2, 1)
    assert f"q/{name}: is a link, expected a file or folder of its own; restore" in errors
    assert everything(storage) == before


def test_fresh_moves_a_broken_folder_aside_unread(command, storage, finished_sweep, monkeypatch):
    storage.mkdir()
    write_sweep(storage / "q", {"a": (2, 3)})
    (storage / "q" / "sweep.json").write_text("{")
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(SAMPLE, None))
    monkeypatch.setattr(raycifar.execution.local, "run_here", lambda *_: None)
    assert command(finished_sweep, "--local", "--fresh")[0] == 1
    assert [path.name[:8] for path in sorted(storage.iterdir())] == ["q", "q.before"]


class Code:
    """What a pickle runs when it is opened."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


def weights_that_run(path):
    path.write_bytes(pickle.dumps({"features.0.weight": Code(path.with_name("evil"))}))


def weights_saved_to_run(path):
    torch.save({"features.0.weight": Code(path.with_name("evil"))}, path)


def tensors(**changes):
    """A safetensors file with VGG16's trunk, but for some of its tensors."""
    return lambda path: save_file(vgg16_zeros(**changes), path)


def cut(path):
    tensors()(path)
    os.truncate(path, 1_000_000)


def text(content):
    return lambda path: path.write_text(content)


def content(content):
    return lambda path: path.write_bytes(content)


def packed_in_tar(path):
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "w.pth")


def zipped(*members):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, "x")

    return make


def saved(state):
    return lambda path: torch.save(state, path)


def saved_twice(path):
    torch.save({"model": small_trunk(), "ema": small_trunk()}, path)


def saved_and_cut(path):
    saved_twice(path)
    os.truncate(path, path.stat().st_size // 2)


def holding(*names):
    """A folder with files of these names."""

    def make(folder):
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x")

    return make


PAGE = "<!DOCTYPE html><title>Log in</title>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 58866625\n"
BAD_ASSETS = {  # the option, what its file is called, how it came to be, what is said
    "no weights": ("--weights", "w.pth", lambda path: None, "No such file or directory"),
    "a folder of weights": ("--weights", "w.pth", Path.mkdir, "Is a directory"),
    "a pipe of weights": ("--weights", "w.pth", os.mkfifo, "not a file but a pipe, a device or a socket"),
    "weights without end": ("--weights", "w.pth", NO_FILE["a device without end"], "not a file but a pipe"),
    "weights of 17 GB": ("--weights", "w.pth", NO_FILE["a file of 17 GB"], "17,179,869,184 bytes, more than"),
    "weights of nobody": ("--weights", "~nobody-at-all/w.pth", lambda path: None, "home directory"),
    "empty weights": ("--weights", "w.pth", Path.touch, "no state dict"),
    "a web page for weights": ("--weights", "w.pth", text(PAGE), "no state dict but a web page"),
    "a web page for tensors": ("--weights", "w.safetensors", text(PAGE), "no state dict but a web page"),
    "a Git LFS pointer": ("--weights", "w.pth", text(POINTER), "but a Git LFS pointer: run `git lfs pull`"),
    "a Git LFS pointer for tensors": ("--weights", "w.safetensors", text(POINTER), "but a Git LFS pointer"),
    "a Keras file": ("--weights", "vgg16.h5", content(b"\x89HDF\r\n\x1a\n" + bytes(99)), "but an HDF5 file"),
    "a tar archive": ("--weights", "w.tar", packed_in_tar, "no state dict but a tar archive: unpack it first"),
    "a gzip archive": ("--weights", "w.pth.gz", content(gzip.compress(b"w")), "but a gzip archive: unpack it first"),
    "a zip archive": ("--weights", "w.zip", zipped("vgg16.pth"), "no state dict but a zip archive: unpack it first"),
    "a NumPy archive": ("--weights", "w.npz", lambda path: np.savez(path, a=np.zeros(3)), "but a NumPy archive"),
    "a new Keras file": ("--weights", "w.keras", zipped("model.weights.h5", "config.json"), "but a Keras model"),
    "a TorchScript archive": ("--weights", "w.pt", zipped("w/data.pkl", "w/constants.pkl"), "but a TorchScript"),
    "a state dict cut short": ("--weights", "w.pth", saved_and_cut, "but a zip archive that is cut short or damaged"),
    "an index of shards": ("--weights", "w.json", text('{"weight_map": {}}'), "no state dict but text"),
    "another network": ("--weights", "w.pth", saved({"conv1.weight": 7}), r"features\.0\.weight is missing: .* conv1"),
    "a trunk twice": ("--weights", "w.pth", saved_twice, r"several parts hold .*model: features\., ema: features\.\)"),
    "a prefixed trunk that lacks a tensor": (
        "--weights",
        "w.pth",
        saved(small_trunk("module.features.", **{"features.5.bias": None})),
        r"module\.features\.5\.bias is missing",
    ),
    "batch norm below a prefix": (
        "--weights",
        "w.pth",
        saved(small_trunk("module.features.", **{"features.1.running_mean": torch.zeros(64), "features.7.bias": None})),
        "VGG with batch normalisation",
    ),
    "zeros for weights": (
        "--weights",
        "w.pth",
        saved(small_trunk(value=0.0)),
        r"features\.0\.weight holds nothing but zeros",
    ),
    "a pickle with code": ("--weights", "w.pth", weights_that_run, "more than tensors, which may be code: refused"),
    "a state dict with code": ("--weights", "w.pth", weights_saved_to_run, "which may be code: refused"),
    "a list": ("--weights", "w.pth", lambda path: torch.save([1, 2], path), "holds a list, expected a state dict"),
    "numbers": ("--weights", "w.pth", lambda path: torch.save({"features.0.bias": 3}, path), "is a int, expected a te"),
    "tensors cut short": ("--weights", "w.safetensors", cut, "file not fully covered"),
    "a tensor missing": (
        "--weights",
        "w.safetensors",
        tensors(**{"features.5.bias": None}),
        "features.5.bias is missing",
    ),
    "a misshapen tensor": (
        "--weights",
        "w.safetensors",
        tensors(**{"features.7.bias": np.zeros(64, np.float32)}),
        r"features\.7\.bias is float32 .64,., expected float32 .128,.",
    ),
    "another type": (
        "--weights",
        "w.safetensors",
        tensors(**{"features.7.bias": np.zeros(128, np.float64)}),
        "is float64",
    ),
    "NaN": (
        "--weights",
        "w.safetensors",
        tensors(**{"features.0.bias": np.full(64, np.nan, np.float32)}),
        "features.0.bias holds values that are not finite",
    ),
    "no data": ("--data", "d", lambda path: None, "No such file or directory"),
    "a file of data": ("--data", "d", Path.touch, "Not a directory"),
    "a pipe of data": ("--data", "d", os.mkfifo, "Not a directory"),
    "data of nobody": ("--data", "~nobody-at-all/d", lambda path: None, "home directory"),
    "an empty folder of data": ("--data", "d", Path.mkdir, "data_batch_1"),
    "the archive of data": ("--data", "d.tar.gz", content(gzip.compress(b"d")), "Not a directory but a gzip archive"),
    "the archive of data in a folder": ("--data", "d", holding("cifar-10-python.tar.gz"), "the archive .*: unpack it"),
    "CIFAR-100": ("--data", "d", holding("train", "test", "meta"), "data_batch_1 is missing: it holds CIFAR-100's Py"),
    "CIFAR-100's parent": ("--data", "d", holding("cifar-100-python"), "it holds CIFAR-100's folder"),
    "the binary version": ("--data", "d", holding("data_batch_1.bin"), "it holds CIFAR-10's binary version"),
    "the Matlab version": ("--data", "d", holding("data_batch_1.mat"), "it holds CIFAR-10's Matlab version"),
    "a folder of pictures": ("--data", "d", holding("0001.png", "0002.PNG"), "it holds single images"),
    "folders of pictures": ("--data", "d", holding("train", "test"), "it holds the folders train and test"),
    "other files": ("--data", "d", holding("a", "b", "c", "d", "e"), "data_batch_1 is missing: it holds a, b, c, d"),
    "Git LFS pointers for batches": ("--data", "d", lambda p: batches(p, text(POINTER)), "looks like a Git LFS"),
    "web pages for batches": (
        "--data",
        "d",
        lambda path: batches(path, lambda p: p.write_text(PAGE)),
        "looks like a web",
    ),
    "other batches": ("--data", "d", lambda path: batches(path, lambda p: p.write_text("x")), "data_batch_1 has md5"),
    "pipes for batches": ("--data", "d", lambda path: batches(path, os.mkfifo), "not a file but a pipe"),
    "huge batches": ("--data", "d", lambda path: batches(path, NO_FILE["a file of 17 GB"]), "larger than 40,000,000"),
}


def batches(folder, make):
    folder.mkdir()
    for name in (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH):
        make(folder / name)


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """A folder for the user's files, with an empty cache beside it and no network."""
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "connect", lambda *_: pytest.fail("reached for the network"))
    for source in (cifar10, weights):
        monkeypatch.setattr(source, "run_program", lambda *_: pytest.fail("reached for a registry"))
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", FETCH)
    return tmp_path


@pytest.mark.parametrize(("case", "line"), [(case[:3], case[3]) for case in BAD_ASSETS.values()], ids=BAD_ASSETS)
def test_a_bad_file_of_the_users_own_is_refused_in_one_line_and_leaves_nothing(
    own_files, command, storage, monkeypatch, case, line
):
    option, name, make = case
    if option == "--weights":
        monkeypatch.setattr(raycifar.execution.runners, "fetch_data", lambda *_: SAMPLE)
    path = name if name.startswith("~") else own_files / name
    make(path)
    status, printed, errors = command(QUICK, "--local", f"{option}={path}")
    *notes, refusal = errors.splitlines()
    assert (status, printed) == (2, "")
    assert all(note.endswith(f": trying {option} {path}") for note in notes)
    assert re.match(f"run_sweep.py: {option} {path}: .*{line}.* by hand: get .* {option}", refusal)
    assert refusal.isprintable()
    assert not storage.exists()
    assert not (own_files / "evil").exists()
    assert {path.suffix for path in own_files.glob("cache/*")} <= {".lock"}


def test_weights_that_would_be_refused_are_taken_where_the_user_insists(own_files, command, monkeypatch):
    monkeypatch.setattr(raycifar.execution.runners, "fetch_data", lambda *_: SAMPLE)
    monkeypatch.setattr(raycifar.execution.local, "run_here", lambda *_: None)
    torch.save(small_trunk(value=0.0), own_files / "w.pth")
    assert command(QUICK, "--local", f"--weights={own_files / 'w.pth'}", "--weights-as-they-are")[0] == 1
    assert len(list(own_files.glob("cache/vgg16-*.safetensors"))) == 1


@pytest.mark.parametrize("cache", ["~nobody-at-all/cache", f"{__file__}/cache"])
def test_a_cache_that_cannot_be_is_refused_in_one_line(own_files, command, monkeypatch, cache):
    monkeypatch.setenv("RAYCIFAR_CACHE", cache)
    status, printed, errors = command(QUICK, "--local")
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.match("run_sweep.py: .*RAYCIFAR_CACHE", errors)


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
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", lambda *_: False)
    status, printed, _ = command(QUICK)
    assert status == 1
    assert re.search(r"scratch +not finished +0 of 3", printed)


def test_quiet_prints_the_results_alone(command, monkeypatch):
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", lambda *given: given[-1].print("progress") or True)
    assert "progress" in command(QUICK)[1]
    _, printed, errors = command(QUICK, "--quiet")
    assert "progress" not in printed + errors
    assert re.search(r"scratch +not finished", printed)


def test_a_sweep_with_an_unfinished_trial_says_how_to_go_on(command, monkeypatch):
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", lambda *_: False)
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", "my sweep.toml"])
    assert "To go on with what is not done: python run_sweep.py 'my sweep.toml'\n" in command(QUICK)[1]
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", "--fresh", "--local"])  # a second time it would start over
    assert "To go on with what is not done: python run_sweep.py --local\n" in command(QUICK, "--fresh")[1]


@pytest.mark.parametrize(
    ("script", "typed", "offered"),
    [("run_sweep.py", "--lo", ["--local", "--log"]), ("analyze.py", "--wa", ["--watch"])],
)
def test_a_shell_gets_completions(tmp_path, script, typed, offered):
    line = f"{script} {typed}"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": " "}
    into = {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    subprocess.run([sys.executable, script], cwd=ROOT, env=os.environ | asked | into, check=True)
    assert sorted((tmp_path / "answer").read_text().split()) == offered


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_interrupted_call_ends_with_status_130_and_the_line_that_resumes(command, monkeypatch):
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", interrupt)
    monkeypatch.setattr(sys, "argv", ["run_sweep.py", "my sweep.toml", "--only=scratch"])
    status, _, errors = command(QUICK)
    assert status == 130
    assert errors == "\nInterrupted. To go on: python run_sweep.py 'my sweep.toml' --only=scratch\n"


def test_a_call_that_is_told_to_end_is_interrupted_too(command, monkeypatch):
    monkeypatch.setattr(raycifar.execution.sweep, "run_sweep", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert command(QUICK)[0] == 130


@pytest.mark.parametrize(
    ("where", "line"),
    [("local.run_here", "python run_sweep.py --local"), ("sweep.opened", "python run_sweep.py --local --fresh")],
)
def test_the_line_that_resumes_does_not_start_over_what_has_begun(command, storage, monkeypatch, where, line):
    storage.mkdir()
    write_sweep(storage / "quick")
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(SAMPLE, None))
    monkeypatch.setattr(f"raycifar.execution.{where}", interrupt)
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
        "--gpus --trials-per-gpu --workers-per-trial --name --storage --only --set --local --dry-run --address --fresh "
        "--hang-timeout --weights-as-they-are --log --json --quiet --verbose"
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
    sizes = [*(f"--set=data.{split}_images=100" for split in ("train", "holdout", "test")), "--set=batch_size=50"]
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
