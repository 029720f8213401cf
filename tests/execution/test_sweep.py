"""Whole sweeps in this process. The sample images stand in for the cached CIFAR-10 (`Assets(SAMPLE)`)."""

import io
import re
import shutil
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import raycifar.storage.records
from raycifar.config.sweep import SweepSpec
from raycifar.data.splits import load_splits
from raycifar.execution import local, plan, runners
from raycifar.execution.options import Options
from raycifar.execution.placement import PlacementError
from raycifar.execution.plan import describe_plan
from raycifar.execution.runners import fetch_assets
from raycifar.execution.sweep import plan_only, run_sweep
from raycifar.storage.asset_cache import AssetError
from raycifar.storage.checkpoints import prune_checkpoints
from raycifar.storage.folders import SweepFolder
from raycifar.tracking.listener import Bus
from raycifar.training.checkpoint_writer import load_checkpoint
from raycifar.training.evaluation import evaluate_logits, predict
from raycifar.training.trial import Assets
from tests.support.networks import build_vgg16
from tests.support.paths import SAMPLE
from tests.support.records import TIMES
from tests.support.sweep_folders import sweep_spec, write_sweep

pytestmark = pytest.mark.slow  # whole sweeps with VGG16

LOCAL = Options(local=True, gpus=0, source="sweeps/tiny.toml")


def sweep_of(**trials):
    """A sweep of VGG16s on a few sample images; each keyword is a trial's settings."""
    data = {"train_images": 20, "holdout_images": 10, "test_images": 10}
    base = {"epochs": 1, "batch_size": 8, "seed": 1, "model": {"weights": "random"}, "data": data}
    tables = [{**base, "name": name, "arm": name, **settings} for name, settings in trials.items()]
    return SweepSpec.model_validate({"name": "tiny", "trials": tables})


SWEEP = sweep_of(short={"model": {"weights": "random", "train": "head"}}, long={"epochs": 2})


def run(sweep, folder, options=LOCAL):
    """What run_sweep returns, and what it prints."""
    console = Console(file=io.StringIO(), width=200, markup=False)
    finished = run_sweep(sweep, folder.path, options, console)
    return finished, console.file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def on_the_sample():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "fetch_assets", lambda trials, options: Assets(SAMPLE, None))
        patch.setattr(plan, "cpu_count", lambda: 1)
        patch.setattr(plan, "memory_bytes", lambda: 1e15)
        yield


@pytest.fixture
def folder(tmp_path):
    """Where a sweep goes; deleted afterwards, for checkpoints of VGG16 are large."""
    yield SweepFolder(tmp_path / "tiny")
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """SWEEP after one call: its folder, and what the call returned and printed."""
    path = tmp_path_factory.mktemp("sweep")
    folder = SweepFolder(path / "tiny")
    yield folder, *run(SWEEP, folder)
    shutil.rmtree(path)


@pytest.fixture
def started(monkeypatch):
    """The names of the trials that start, in order; none of them trains."""
    names = []
    monkeypatch.setattr(local, "run_here", lambda trial, *_: names.append(trial.name))
    return names


def numbers(folder, trial):
    records = folder.trial(trial).history().epochs
    return [{key: value for key, value in asdict(record).items() if key not in TIMES} for record in records]


def test_a_sweep_that_finishes_says_so(uninterrupted):
    _, finished, printed = uninterrupted
    assert finished
    assert "2 trials, 1 at once, on the CPU, 1 thread a worker" in printed
    assert re.findall(r"(\w+)  epoch (\d)/", printed) == [("long", "1"), ("long", "2"), ("short", "1")]


def test_the_disk_holds_what_the_contract_documents_and_nothing_else(uninterrupted):
    folder, *_ = uninterrupted
    found = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*")}
    documented = re.findall(r"^ {8,}(\S+?)/? {2,}", raycifar.storage.records.__doc__, re.MULTILINE)
    in_sweep = documented[: documented.index("<trial>")]
    in_trial = set(documented[len(in_sweep) + 1 :]) - {"error.json", "checkpoint_000012"}
    in_checkpoint = {"state.pt", "history.json", "manifest.json"}
    assert {path for path in found if "/" not in path} == {*in_sweep, "long", "short"}
    for trial, epochs in (("long", 2), ("short", 1)):
        checkpoints = {f"checkpoint_{epoch:06d}" for epoch in range(1, epochs + 1)}
        below = {f"{name}/{file}" for name in checkpoints for file in in_checkpoint}
        expected = in_trial | checkpoints | below
        here = {path.removeprefix(f"{trial}/") for path in found if path.startswith(f"{trial}/")}
        assert {re.sub(r"(tfevents\.).*", r"\1*", path) for path in here} == expected


@pytest.mark.parametrize("trial", SWEEP.trials, ids=lambda trial: trial.name)
def test_a_summary_agrees_with_the_history(uninterrupted, trial):
    folder, *_ = uninterrupted
    summary, history = folder.trial(trial.name).summary(), folder.trial(trial.name).history()
    best = max(history.epochs, key=lambda record: record.val_accuracy)  # the first of equals
    assert (summary.trial, summary.fingerprint, summary.epochs_run) == (trial.name, trial.fingerprint(), trial.epochs)
    assert (summary.best_epoch, summary.best_val_accuracy) == (best.epoch, best.val_accuracy)
    assert summary.best_val_loss == best.val_loss
    assert summary.train_seconds == sum(record.train_seconds for record in history.epochs)
    assert summary.val_seconds == sum(record.val_seconds for record in history.epochs)
    assert summary.startup_seconds == sum(session.startup_seconds for session in history.sessions)
    assert (summary.train_images, summary.val_images, summary.test_images) == (20, 10, 10)


def test_only_the_parameters_that_train_are_counted(uninterrupted):
    folder, *_ = uninterrupted
    assert folder.trial("short").summary().parameters == 512 * 10 + 10
    assert folder.trial("long").summary().parameters == 14_714_688 + 5_130  # VGG16's convolutions, and the head


@pytest.mark.parametrize("trial", SWEEP.trials, ids=lambda trial: trial.name)
def test_predictions_are_those_of_the_best_weights_on_the_test_images(uninterrupted, trial):
    files = uninterrupted[0].trial(trial.name)
    saved = np.load(files.predictions)
    logits, labels = torch.from_numpy(saved["logits"]), torch.from_numpy(saved["labels"])
    test = load_splits(SAMPLE, trial.data).test
    model = build_vgg16(trial.model, seed=5)
    model.load_state_dict(load_file(files.best_weights))
    assert labels.equal(test.labels)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, predict(model, test, files.summary().precision))
    assert evaluate_logits(logits, labels) == (files.summary().test_loss, files.summary().test_accuracy)


def test_the_call_is_on_record(uninterrupted):
    folder, *_ = uninterrupted
    (call,) = folder.invocations()
    assert (call.runner, call.gpus, call.trials_at_once, call.exit_status) == ("local", 0, 1, 0)
    assert (folder.record().source, folder.record().weights) == ("sweeps/tiny.toml", "")


def test_training_goes_on_while_old_checkpoints_are_deleted(folder, monkeypatch):
    last_epoch, deleted = threading.Event(), []

    def late(path):
        deleted.append(last_epoch.wait(10))
        prune_checkpoints(path)

    monkeypatch.setattr(local, "prune_checkpoints", late)
    monkeypatch.setattr(Bus, "epoch", lambda _, trial, record: record.epoch == 3 and last_epoch.set())
    head = {"weights": "random", "train": "head"}
    assert run(sweep_of(short={"epochs": 3, "model": head}), folder)[0]
    assert deleted == [True] * 4, "after each epoch, and after the test"
    *_, newest = kept = sorted(path.name for path in folder.trial("short").path.glob("checkpoint_*"))
    assert (len(kept), newest) == (2, "checkpoint_000003")


def test_a_second_call_does_nothing(uninterrupted, started):
    folder, *_ = uninterrupted
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path != folder.lock}
    finished, printed = run(SWEEP, folder)
    assert finished
    assert printed == f"Nothing to do: all 2 trials in {folder.path} have finished.\n"
    assert started == []
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path != folder.lock} == before


def test_an_interrupted_sweep_resumes_and_ends_as_if_it_had_never_stopped(uninterrupted, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bus, "epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(SWEEP, folder)
    files = folder.trial("long")
    assert (len(files.history().epochs), files.summary(), files.error()) == (1, None, None)
    assert not folder.trial("short").path.exists()

    assert run(SWEEP, folder)[0]
    assert [call.exit_status for call in folder.invocations()] == [130, 0]
    assert [session.first_epoch for session in files.history().sessions] == [1, 2]
    whole = uninterrupted[0]
    assert [numbers(folder, name) for name in ("long", "short")] == [numbers(whole, name) for name in ("long", "short")]
    assert last_weights(folder.trial("long").path) == last_weights(whole.trial("long").path)
    assert files.best_weights.read_bytes() == whole.trial("long").best_weights.read_bytes()
    assert np.array_equal(np.load(files.predictions)["logits"], np.load(whole.trial("long").predictions)["logits"])


def interrupt(*_):
    raise KeyboardInterrupt


def last_weights(trial):
    state, _ = load_checkpoint(trial / "checkpoint_000002")
    return {name: weight.numpy().tobytes() for name, weight in state["model"].items()}


@pytest.fixture(scope="module")
def exploded(tmp_path_factory):
    """A sweep whose longest trial, and so its first, diverges: as `uninterrupted`."""
    path = tmp_path_factory.mktemp("sweep")
    folder = SweepFolder(path / "tiny")
    yield folder, *run(WILD, folder)
    shutil.rmtree(path)


WILD = sweep_of(wild={"epochs": 2, "optimizer": {"lr": 1e6}}, calm={"model": {"weights": "random", "train": "head"}})


def test_a_trial_whose_loss_explodes_fails_alone(exploded):
    folder, finished, _ = exploded
    assert not finished
    assert (folder.trial("wild").summary(), folder.trial("calm").error()) == (None, None)
    assert folder.trial("calm").summary().epochs_run == 1
    assert folder.invocations()[0].exit_status == 1


def test_an_exploded_loss_is_explained_by_epoch_step_and_remedy(exploded):
    folder, _, printed = exploded
    error = folder.trial("wild").error()
    assert error.kind == "NonFiniteLossError"
    assert re.search(r"loss is (nan|inf) in epoch [12], step [123] of 3: lower optimizer\.lr", error.message)
    assert f"wild  failed  {error.message}" in printed


def test_a_failed_trial_is_tried_again_by_the_next_call(exploded, started):
    assert not run(WILD, exploded[0])[0]
    assert started == ["wild"]


def test_trials_that_have_finished_do_not_start_again(tmp_path, started):
    folder = write_sweep(tmp_path / "q", arms := {"a": (2, 3), "b": (1, 5), "c": (1, 4)})
    for name in ("a-2", "c"):
        (folder.trial(name).path / "summary.json").unlink()
    assert not run(sweep_spec("q", arms, {}), folder)[0]
    assert started == ["c", "a-2"]


def test_a_fresh_start_runs_all_trials_again(tmp_path, started):
    folder = write_sweep(tmp_path / "q", arms := {"a": (2, 3), "b": (1, 5)})
    assert not run(sweep_spec("q", arms, {}), folder, Options(local=True, gpus=0, fresh=True))[0]
    assert started == ["b", "a-1", "a-2"]


def test_only_the_chosen_trials_run_and_the_sweep_on_record_stays_whole(tmp_path, started):
    folder = write_sweep(tmp_path / "q", arms := {"a": (2, 3), "b": (1, 5)})
    for name in ("a-2", "b"):
        (folder.trial(name).path / "summary.json").unlink()
    assert not run(sweep_spec("q", arms, {}), folder, Options(local=True, gpus=0, only=("a",)))[0]
    assert started == ["a-2"]
    assert len(folder.record().spec["trials"]) == 3


def test_the_chosen_trials_alone_decide_whether_a_call_finished(tmp_path, monkeypatch):
    folder = write_sweep(tmp_path / "q", arms := {"a": (2, 3), "b": (1, 5)})
    summaries = {name: folder.trial(name).summary() for name in ("a-2", "b")}
    for name in summaries:
        (folder.trial(name).path / "summary.json").unlink()

    def finish(trial, *_):
        folder.trial(trial.name).write_summary(summaries[trial.name])

    monkeypatch.setattr(local, "run_here", finish)
    assert run(sweep_spec("q", arms, {}), folder, Options(local=True, gpus=0, only=("a",)))[0]
    assert folder.trial("b").summary() is None


def test_the_table_begins_with_the_epochs_and_results_that_are_there(tmp_path, started):
    folder = write_sweep(tmp_path / "q", arms := {"a": (2, 3)})
    (folder.trial("a-2").path / "summary.json").unlink()
    assert "a-1  done  test " in run(sweep_spec("q", arms, {}), folder)[1]


REFUSED = {
    "a GPU that is not there": (Options(local=True, gpus=1), r"--gpus 1: PyTorch sees 0 GPUs: type --gpus 0"),
    "several GPUs": (Options(local=True, gpus=4), "--gpus 4: one GPU at most"),
    "several workers": (Options(local=True, gpus=0, workers_per_trial=2), "leave out --local"),
    "shared GPUs": (Options(local=True, gpus=0, trials_per_gpu=2), "leave out --local"),
    "a cluster": (Options(local=True, gpus=0, address="auto"), "leave out --local"),
}


@pytest.mark.parametrize(("options", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_local_cannot_do_is_refused_and_leaves_nothing(folder, monkeypatch, started, options, remedy):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(PlacementError, match=remedy):
        run(SWEEP, folder, options)
    assert not folder.path.exists()
    assert started == []


def test_without_its_data_a_sweep_leaves_nothing(folder, monkeypatch):
    def none(*_):
        raise AssetError("no CIFAR-10")

    monkeypatch.setattr(runners, "fetch_assets", none)
    with pytest.raises(AssetError):
        run(SWEEP, folder)
    assert not folder.path.exists()


@pytest.mark.parametrize(("weights", "fetched"), [("imagenet", ["cifar10", "vgg16"]), ("random", ["cifar10"])])
def test_imagenet_weights_are_fetched_only_for_a_trial_that_starts_from_them(monkeypatch, weights, fetched):
    calls = []
    monkeypatch.setattr(runners, "fetch_data", lambda *_: calls.append("cifar10") or Path("cifar10"))
    monkeypatch.setattr(runners, "fetch_weights", lambda name, *_: calls.append(name) or Path(name))
    assets = fetch_assets(sweep_of(a={}, b={"model": {"weights": weights}}).trials, Options())
    assert calls == fetched
    assert (assets.imagenet is not None) == ("vgg16" in fetched)


def test_the_plan_of_local_is_one_trial_at_a_time_on_all_cores(monkeypatch):
    monkeypatch.setattr(plan, "cpu_count", lambda: 8)
    made, gpus = plan_only(SWEEP, LOCAL)
    assert (made.at_once, made.threads, gpus) == (1, 8, 0)


def test_a_plan_may_be_for_gpus_that_are_not_there():
    made, gpus = plan_only(SWEEP, Options(gpus=4))
    assert (made.at_once, made.uses_gpu, gpus) == (2, True, 4)


def test_sharing_is_not_measured_where_there_is_no_gpu():
    with pytest.raises(PlacementError, match="--trials-per-gpu auto measures GPUs, and this runs on CPUs"):
        plan_only(SWEEP, Options(gpus=0, trials_per_gpu="auto"))
    assert plan_only(SWEEP, Options(gpus=1, trials_per_gpu="auto"))[0].at_once == 1


PLANS = {
    "4 trials, 4 at once, on 4 GPUs": (Options(gpus=4), 8),
    "4 trials, 1 at once, on 1 GPU": (Options(gpus=1), 8),
    "4 trials, 2 at once, 2 workers each, on 4 GPUs": (Options(gpus=4, workers_per_trial=2), 8),
    "4 trials, 4 at once, on the CPU, 2 threads a worker": (Options(gpus=0), 8),
    "1 trial, 1 at once, on the CPU, 8 threads a worker": (Options(gpus=0, only=("b",)), 8),
}


@pytest.mark.parametrize(("line", "asked"), PLANS.items(), ids=PLANS)
def test_a_plan_is_one_line(monkeypatch, line, asked):
    options, cores = asked
    monkeypatch.setattr(plan, "cpu_count", lambda: cores)
    assert describe_plan(*plan_only(sweep_of(a={}, b={}, c={}, d={}), options)) == line


def test_an_error_of_any_kind_ends_only_its_own_trial(tmp_path, monkeypatch):
    """A disk that fills up while the first of two trials runs."""
    real = local.run_trial

    def full_at_first(trial, *rest):
        if trial.name == "first":
            raise OSError(28, "No space left on device")
        return real(trial, *rest)

    monkeypatch.setattr(local, "run_trial", full_at_first)
    folder = SweepFolder(tmp_path / "tiny")
    finished, printed = run(sweep_of(first={"epochs": 2}, second={}), folder)
    assert not finished
    assert folder.trial("second").summary() is not None
    assert "first  failed  [Errno 28] No space left on device" in printed
