"""What a user names is looked at or refused, also where nothing is left to run and in a dry run. Nothing trains."""

import hashlib
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.numpy import save_file

import raycifar.execution.local
import raycifar.execution.plan
import raycifar.execution.runners
from raycifar.commands import run_sweep
from raycifar.config.sweep_file import load_sweep
from raycifar.devices import LOGICAL_GPUS
from raycifar.execution.placement import PlacementError
from raycifar.networks import weights
from raycifar.search.records import SearchFolder, SearchRecord
from raycifar.search.spec import load_search
from raycifar.storage.folders import SweepFolder
from raycifar.training.trial import Assets
from tests.support.hostile import everything
from tests.support.search_folders import FILE, write_samples
from tests.support.sweep_folders import sweep_spec, write_sweep

SWEEP = """
[[trials]]
name = "transfer"
epochs = 3
model = { weights = "imagenet" }
[[trials]]
name = "scratch"
epochs = 5
model = { weights = "random" }
"""
ARMS = {"transfer": (1, 3), "scratch": (1, 5)}
LAYOUT = {"features.0.bias": ("float32", (64,))}  # of weights that a test writes in no time


@pytest.fixture(autouse=True)
def neither_gpus_nor_ray_nor_downloads(monkeypatch, no_leaving):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", lambda *_: pytest.fail("started Ray"))
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: pytest.fail("fetched"))


@pytest.fixture
def own(tmp_path, monkeypatch, cache, unreachable):
    """A folder for the user's files, beside an empty cache and sweep and search files that ask for small weights."""
    monkeypatch.setattr(weights, "VGG16_LAYOUT", LAYOUT)
    monkeypatch.setattr(weights, "VGG16_ASSET", replace(weights.VGG16_ASSET, layout=LAYOUT))
    monkeypatch.setattr(weights, "check_trunk", lambda _: None)  # so small a trunk looks like none
    (tmp_path / "q.toml").write_text(SWEEP)
    (tmp_path / "s.toml").write_text(FILE.replace('weights = "random"', 'weights = "imagenet"'))
    for value in (1, 2):
        save_file({"features.0.bias": np.full(64, value, np.float32)}, tmp_path / f"{value}.safetensors")
    (tmp_path / "page.safetensors").write_text("<!DOCTYPE html>")
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.fixture
def command(capsys, own):
    """Calls run_sweep.py; returns its exit status, what it printed, and its errors."""

    def call(file, *arguments):
        status = run_sweep.main([str(own / file), f"--storage={own / 'results'}", *arguments])
        return status, *capsys.readouterr()

    return call


def recorded(own, number):
    """The name that the cache has for the user's weights of this number."""
    content = (own / f"{number}.safetensors").read_bytes()
    return f"vgg16-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"


def finished_sweep(own, kept):
    assert load_sweep(own / "q.toml") == sweep_spec("q", ARMS, {})
    folder = write_sweep(own / "results/q", ARMS)
    folder.write_record(replace(folder.record(), weights=kept))
    return ["q.toml"]


def half_a_sweep(own, kept):
    """Whose trial that reads weights has finished."""
    finished_sweep(own, kept)
    (own / "results/q/scratch/summary.json").unlink()
    return ["q.toml", "--local"]


def finished_search(own, kept):
    folder, search = SearchFolder(own / "results/s"), load_search(own / "s.toml")
    folder.path.mkdir(parents=True)
    about = {"source": "s.toml", "created_at": 1.7e9, "versions": {}, "commit": None, "hardware": "here"}
    record = SearchRecord(name="s", spec=search.model_dump(mode="json"), asks=search.asks, weights=kept, **about)
    folder.write_record(record)
    write_samples(folder, search, {"sample-0001": [0.2, 0.3]})
    return ["s.toml", "--set=search.samples=1"]


def dry(make):
    return lambda own, kept: [*make(own, kept), "--dry-run"]


BEGUN = {
    "a finished sweep": finished_sweep,
    "a sweep whose rest reads no weights": half_a_sweep,
    "a finished search": finished_search,
    "a plan of a sweep": dry(finished_sweep),
    "a plan of a search": dry(finished_search),
}
NEW = {
    "a plan of a new sweep": lambda own, kept: ["q.toml", "--dry-run"],
    "a plan of a new search": lambda own, kept: ["s.toml", "--dry-run"],
}
WRONG = {  # the option, the file's name, what is said of it
    "no weights": ("--weights", "none.pth", "No such file or directory"),
    "a pipe of weights": ("--weights", "pipe.pth", "not a file but a pipe"),
    "a web page for weights": ("--weights", "page.safetensors", "web page"),
    "no data": ("--data", "none", "No such file or directory"),
    "a file of data": ("--data", "q.toml", "Not a directory"),
    "an empty folder of data": ("--data", "empty", "data_batch_1"),
}


@pytest.mark.parametrize("state", (BEGUN | NEW).values(), ids=BEGUN | NEW)
@pytest.mark.parametrize(("option", "name", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_whatever_is_left_to_run(own, command, state, option, name, line):
    arguments = state(own, "")
    before = everything(own)
    status, printed, errors = command(*arguments, f"{option}={own / name}")
    assert (status, printed) == (2, "")
    assert re.match(f"run_sweep.py: {option} {own / name}: .*{line}.*: get ", errors.splitlines()[-1])
    assert "Traceback" not in errors
    assert everything(own) == before


@pytest.mark.parametrize("state", BEGUN.values(), ids=BEGUN)
def test_other_weights_than_those_on_record_are_refused_whatever_is_left_to_run(own, command, state):
    arguments = state(own, recorded(own, 1))
    before = everything(own)
    status, printed, errors = command(*arguments, f"--weights={own / '2.safetensors'}")
    assert (status, printed) == (2, "")
    assert f"started from the ImageNet weights {recorded(own, 1)}, not {recorded(own, 2)}: name the sam" in errors
    assert everything(own) == before


@pytest.mark.parametrize("state", [make for name, make in BEGUN.items() if "rest" not in name])
def test_the_weights_on_record_are_accepted_and_nothing_is_cached(own, command, cache, state):
    assert command(*state(own, recorded(own, 1)), f"--weights={own / '1.safetensors'}")[0] == 0
    assert not cache.exists()


def test_a_plan_for_a_fresh_start_asks_for_no_weights_on_record(own, command):
    arguments = [*dry(finished_sweep)(own, recorded(own, 1)), f"--weights={own / '2.safetensors'}"]
    assert command(*arguments)[0] == 2
    assert command(*arguments, "--fresh")[0] == 0


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--local"]], ids=["Ray", "a plan", "--local"])
def test_weights_that_no_trial_reads_are_refused(own, command, more):
    (own / "q.toml").write_text(SWEEP.replace("imagenet", "random"))
    status, printed, errors = command("q.toml", f"--weights={own / '1.safetensors'}", *more)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "1.safetensors: no trial starts from ImageNet weights: leave it out" in errors


def test_weights_of_trials_that_were_not_chosen_are_no_mistake(own, command):
    finished_sweep(own, recorded(own, 1))
    assert command("q.toml", "--only=scratch", f"--weights={own / '1.safetensors'}")[0] == 0


@pytest.mark.parametrize("state", (BEGUN | NEW).values(), ids=BEGUN | NEW)
def test_a_cache_that_can_be_no_folder_is_refused_whatever_is_left_to_run(own, command, monkeypatch, state):
    arguments = state(own, "")
    monkeypatch.setenv("RAYCIFAR_CACHE", str(own / "q.toml/cache"))
    status, printed, errors = command(*arguments)
    assert (status, printed) == (2, "")
    assert errors == f"run_sweep.py: RAYCIFAR_CACHE={own / 'q.toml/cache'}: {own / 'q.toml'} is a file: name a folder\n"


CONTRADICTIONS = {
    "--local --hang-timeout=9": "leave out --hang-timeout and --verbose, or leave out --local",
    "--local --verbose": "leave out --hang-timeout and --verbose, or leave out --local",
    "--local --address=auto": "leave out --workers-per-trial, --trials-per-gpu and --address, or leave out --local",
    "--local --workers-per-trial=2": "leave out --workers-per-trial, --trials-per-gpu and --address",
    "--local --gpus=4": "--local --gpus 4: one GPU at most",
    "--weights-as-they-are": "about the file that --weights names: name it, or leave it out",
    "--gpus=0 --trials-per-gpu=2": "--trials-per-gpu 2 needs a GPU, and this runs on CPUs: leave it out",
    "--gpus=0 --trials-per-gpu=auto": "--trials-per-gpu auto measures GPUs, and this runs on CPUs: leave it out",
    "--gpus=4 --workers-per-trial=2 --trials-per-gpu=2": "exclude each other",
    "--gpus=4 --workers-per-trial=2 --trials-per-gpu=auto": "exclude each other",
}


@pytest.mark.parametrize(("options", "line"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
@pytest.mark.parametrize("state", [finished_sweep, dry(finished_sweep)], ids=["finished", "a plan"])
def test_options_that_undo_each_other_are_refused_whatever_is_left_to_run(own, command, state, options, line):
    status, printed, errors = command(*state(own, ""), *options.split())
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert line in errors


def another_sweep(own):
    finished_sweep(own, "")
    return ["q.toml", "--set=epochs=4"], "has other settings in this sweep"


def another_search(own):
    finished_search(own, "")
    return ["s.toml", "--set=epochs=9"], "another trial or space was searched there"


def a_searchs_folder(own):
    finished_search(own, "")
    return ["q.toml", "--name=s"], "holds something else"


def a_sweeps_folder(own):
    finished_sweep(own, "")
    return ["s.toml", "--name=q"], "holds something else"


@pytest.mark.parametrize("make", [another_sweep, another_search, a_searchs_folder, a_sweeps_folder])
def test_a_plan_in_a_folder_of_another_is_refused_as_the_run_would_be(own, command, make):
    arguments, line = make(own)
    before = everything(own)
    refused = command(*arguments)
    assert command(*arguments, "--dry-run") == refused
    assert (refused[0], refused[1], refused[2].count("\n")) == (2, "", 1)
    assert line in refused[2]
    assert everything(own) == before


def test_a_plan_is_shown_while_another_call_works_there(own, command):
    with FileLock(own / "results/q/sweep.lock") if finished_sweep(own, "") else None:
        assert command("q.toml", "--dry-run")[0] == 0


def test_a_plan_for_a_cluster_needs_its_gpus_named(own, command):
    status, printed, errors = command("q.toml", "--dry-run", "--address=auto")
    assert (status, printed) == (2, "")
    assert errors.endswith("--dry-run asks no cluster for its GPUs: type --gpus N too, or leave out --address\n")
    assert "on 8 GPUs" in command("q.toml", "--dry-run", "--address=auto", "--gpus=8")[1]


@pytest.mark.parametrize("make", [finished_sweep, finished_search, lambda *_: ["q.toml"]])
def test_an_address_that_does_not_answer_is_refused_before_torch_is_imported(own, make):
    """Importing it takes most of a minute on a busy machine."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        arguments = [*make(own, ""), f"--storage={own / 'results'}", f"--address=127.0.0.1:{mute.getsockname()[1]}"]
        code = (
            "import sys; from raycifar.execution import ray_address; ray_address.GREETING_SECONDS = 0.2\n"
            "from raycifar.commands.run_sweep import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
        )
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=own, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr.count("\n")) == ("2 False\n", 1), done.stderr
    assert "no Ray cluster answers there (no answer in time): start it" in done.stderr


def test_chosen_trials_that_have_finished_are_all_that_is_told_of(own, command):
    half_a_sweep(own, "")
    status, printed, _ = command("q.toml", "--only=transfer", "--local")
    assert status == 0
    assert "Nothing to do: all 1 trials" in printed


# GPUs that are not there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "gpus"), [("q.toml", "4"), ("s.toml", "4"), ("q.toml", "1")])
def test_more_gpus_than_this_machine_has_are_refused_before_ray_starts(own, command, file, gpus):
    status, printed, errors = command(file, f"--gpus={gpus}")
    remedy = "type --gpus 0 to run on the CPU, or leave --gpus out"
    assert (status, printed, errors) == (2, "", f"run_sweep.py: --gpus {gpus}: this machine has 0 GPUs: {remedy}\n")
    assert not (own / "results").exists()


@pytest.mark.parametrize("options", [[], ["--gpus=1"]])
def test_gpus_that_this_pytorch_cannot_use_are_refused_before_ray_starts(own, command, monkeypatch, options):
    monkeypatch.setattr(raycifar.execution.plan, "gpu_count", lambda: 2)  # as NVML counts them
    status, printed, errors = command("q.toml", *options)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.search(r"this machine has [12] GPUs, but PyTorch .* cannot use them: install .* or type --gpus 0", errors)
    assert not (own / "results").exists()


def test_gpus_are_not_asked_for_where_nothing_is_left_to_run(own, command):
    assert command(*finished_sweep(own, ""), "--gpus=4")[0] == 0


LEFT_TO_RAY = {
    "logical GPUs": lambda patch: patch.setenv(LOGICAL_GPUS, "1") or [],
    "a Ray that runs": lambda patch: patch.setitem(sys.modules, "ray", RUNNING) or [],
    "a cluster": lambda patch: ["--address=auto"],
}
RUNNING = SimpleNamespace(is_initialized=lambda: True)


@pytest.mark.parametrize("prepare", LEFT_TO_RAY.values(), ids=LEFT_TO_RAY)
def test_ray_is_asked_for_gpus_that_it_alone_knows(own, command, monkeypatch, prepare):
    def refuse(*_):
        raise PlacementError("Ray was asked")

    more = prepare(monkeypatch)
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", refuse)
    assert command("q.toml", "--gpus=4", *more) == (2, "", "run_sweep.py: Ray was asked\n")


def test_a_runner_that_cannot_run_leaves_nothing(own, command, monkeypatch):
    """Such as a node without the storage folder; earlier results are not even moved aside."""

    def refuse(*_):
        raise PlacementError("node b: does not see it")

    finished_sweep(own, "")
    monkeypatch.setattr(raycifar.execution.local.Local, "check", refuse)
    file = own / "data.safetensors"
    save_file({"none": np.zeros(1)}, file, metadata={"sha256": "a1"})
    monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(file, None))
    before = everything(own)
    for more in ([], ["--name=other"]):
        assert command("q.toml", "--local", "--fresh", *more) == (2, "", "run_sweep.py: node b: does not see it\n")
    assert everything(own) == before


# What was read is on record ------------------------------------------------------------------------------------------


def test_the_digest_of_the_data_is_on_record_and_other_data_are_refused(own, command, monkeypatch):
    def read(digest):
        path = own / f"{digest}.safetensors"
        save_file({"none": np.zeros(1)}, path, metadata={"sha256": digest})
        monkeypatch.setattr(raycifar.execution.runners, "fetch_assets", lambda *_: Assets(path, None))
        return command("q.toml", "--local", "--only=scratch")

    monkeypatch.setattr(raycifar.execution.local, "run_here", lambda *_: None)
    assert read("a1")[0] == 1
    assert SweepFolder(own / "results/q").record().data == "a1"
    status, _, errors = read("b2")
    assert (status, errors.count("\n")) == (2, 1)
    assert "its trials read CIFAR-10 with digest a1, not b2: choose another --name, or restore the images" in errors
    assert SweepFolder(own / "results/q").record().data == "a1"
