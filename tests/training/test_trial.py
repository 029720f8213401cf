"""One whole trial with VGG16 on a few real images, alone and with several gloo workers."""

import errno
import gc
import io
import logging
import os
import time
from concurrent.futures import Future
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

import raycifar.training.checkpoint_writer
import raycifar.training.session
import raycifar.training.trial
from raycifar.config.datasets import CIFAR10
from raycifar.data.splits import load_splits
from raycifar.devices import full_memory
from raycifar.networks import fused_norm
from raycifar.networks.cost import flops_an_image
from raycifar.storage.checkpoints import newest_checkpoint
from raycifar.storage.folders import TrialFolder
from raycifar.training.checkpoint_writer import save_checkpoint
from raycifar.training.evaluation import evaluate
from raycifar.training.failures import HOPELESS, CheckpointError, GpuMemoryError, OtherNetworkError, StorageError
from raycifar.training.loop import NonFiniteLossError
from raycifar.training.precision import PrecisionError
from raycifar.training.trial import Assets, Caller, Place, network, run_trial, set_up_torch
from tests.support.checkpoints import write_state
from tests.support.errors import FULL_MEMORY
from tests.support.networks import Floats, Small, build_vgg16
from tests.support.paths import SAMPLE
from tests.support.records import numbers

ASSETS = Assets(SAMPLE, None)
PLACE = Place("cpu", 1, "here:cpu")


def run(spec, folder, on_epoch=lambda record, path: None):
    folder.mkdir(exist_ok=True)
    return run_trial(spec, folder, ASSETS, PLACE, Caller(on_epoch))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A finished trial: its spec, folder and summary."""
    from raycifar.config.sweep import TrialSpec

    data = {"train_images": 40, "holdout_images": 20, "test_images": 20}
    model = {"weights": "random", "batch_norm": True}
    spec = TrialSpec.model_validate(
        {"name": "t", "arm": "t", "seed": 1, "epochs": 3, "batch_size": 20, "model": model, "data": data}
    )
    folder = tmp_path_factory.mktemp("trial")
    return spec, folder, run(spec, folder)


@pytest.mark.slow
def test_a_finished_trial_leaves_what_the_contract_says(finished):
    _, folder, _ = finished
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("checkpoint_"))
    assert names == ["best.safetensors", "history.json", "predictions.npz", "summary.json"]


@pytest.mark.slow
def test_history_has_every_epoch_once_and_its_session(finished):
    _, folder, _ = finished
    history = TrialFolder(folder).history()
    assert [record.epoch for record in history.epochs] == [1, 2, 3]
    (session,) = history.sessions
    assert (session.first_epoch, session.devices, session.device_kind) == (1, ["here:cpu"], "cpu")
    assert session.started_at < history.epochs[0].finished_at < session.ended_at


@pytest.mark.slow
def test_the_summary_says_what_the_history_says(finished):
    _, folder, summary = finished
    files = TrialFolder(folder)
    epochs = files.history().epochs
    assert files.summary() == summary
    assert summary.best_val_accuracy == max(record.val_accuracy for record in epochs)
    assert summary.train_seconds == pytest.approx(sum(record.train_seconds for record in epochs))
    assert (summary.train_images, summary.val_images, summary.test_images) == (40, 20, 20)
    assert summary.fingerprint == finished[0].fingerprint()


@pytest.mark.slow
def test_predictions_have_the_groups_of_the_test_images_where_the_file_has_some(make_trial, tmp_path):
    tensors = load_file(SAMPLE)
    groups = torch.arange(len(tensors["test_labels"])) // 4
    save_file(tensors | {"test_groups": groups}, tmp_path / "grouped.safetensors")
    spec = make_trial(epochs=1)
    summary = run_trial(spec, tmp_path, Assets(tmp_path / "grouped.safetensors", None), PLACE, Caller(lambda *_: None))
    saved = np.load(tmp_path / "predictions.npz", allow_pickle=False)
    assert saved["groups"].tolist() == groups[saved["index"]].tolist()
    assert "near" not in saved.files
    assert summary.all_parameters == sum(p.numel() for p in build_vgg16(spec.model, 0).parameters())
    assert summary.forward_flops == flops_an_image(spec)[0]


@pytest.mark.slow
def test_predictions_give_the_test_accuracy_again(finished):
    spec, folder, summary = finished
    saved = np.load(folder / "predictions.npz", allow_pickle=False)
    test = load_splits(SAMPLE, spec.data).test
    assert saved["labels"].tolist() == test.labels.tolist()
    assert (saved["logits"].argmax(1) == saved["labels"]).mean() == pytest.approx(summary.test_accuracy)


@pytest.mark.slow
def test_the_training_images_are_measured_as_test_images_are(finished):
    spec, folder, summary = finished
    set_up_torch(spec, PLACE)
    data, model = load_splits(SAMPLE, spec.data), build_vgg16(spec.model, spec.seed)
    model.load_state_dict(load_file(folder / "best.safetensors"))
    assert summary.plain_train_accuracy == evaluate(model, data.train, summary.precision)[1]
    assert summary.test_accuracy == evaluate(model, data.test, summary.precision)[1]
    assert summary.plain_train_seconds > 0


@pytest.mark.slow
def test_measuring_the_training_images_changes_no_other_number(finished, tmp_path):
    spec, folder, summary = finished
    quiet = spec.model_copy(update={"data": spec.data.model_copy(update={"measure_training": False})})
    without = run(quiet, tmp_path)
    assert (without.plain_train_accuracy, without.plain_train_seconds) == (None, 0.0)
    assert numbers(TrialFolder(tmp_path).history().epochs) == numbers(TrialFolder(folder).history().epochs)
    for name in ("best.safetensors", "predictions.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    states = [(newest_checkpoint(path) / "state.pt").read_bytes() for path in (tmp_path, folder)]
    assert states[0] == states[1]
    same = ("test_accuracy", "test_accuracy_flip", "test_loss", "best_val_accuracy", "best_val_loss", "fingerprint")
    assert [getattr(without, name) for name in same] == [getattr(summary, name) for name in same]


@pytest.mark.slow
def test_a_trial_with_a_split_of_its_own_resumes_on_the_same_images(finished, tmp_path):
    spec, _, _ = finished
    own = spec.model_copy(update={"data": spec.data.model_copy(update={"split_seed": "trial"})})

    def interrupt(record, path):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(own, tmp_path, interrupt)
    run(own, tmp_path)
    run(own, tmp_path / "whole")
    resumed, whole = (TrialFolder(path).history().epochs for path in (tmp_path, tmp_path / "whole"))
    assert numbers(resumed) == numbers(whole)
    assert numbers(whole) != numbers(TrialFolder(finished[1]).history().epochs)


@pytest.mark.slow
def test_the_tested_weights_are_the_best_ones(finished):
    _, folder, _ = finished
    state = torch.load(newest_checkpoint(folder) / "state.pt", weights_only=True)
    best = load_file(folder / "best.safetensors")
    assert best.keys() == state["best"]["best_weights"].keys()
    assert all(best[name].equal(weight) for name, weight in state["best"]["best_weights"].items())


@pytest.mark.slow
def test_an_interrupted_trial_resumes_to_the_same_numbers_and_weights(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(raycifar.training.checkpoint_writer, "ThreadPoolExecutor", FastDisk)
    spec, folder, _ = finished

    def interrupt(record, path):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path, interrupt)
    torch.rand(5)
    run(spec, tmp_path)
    before, after = TrialFolder(folder).history(), TrialFolder(tmp_path).history()
    assert numbers(after.epochs) == numbers(before.epochs)
    assert [session.first_epoch for session in after.sessions] == [1, 3]
    expected, resumed = load_file(folder / "best.safetensors"), load_file(tmp_path / "best.safetensors")
    assert all(expected[name].equal(resumed[name]) for name in expected)


class FakeMeter:
    """Of a GPU that is not there: 100 J between any two questions."""

    def __init__(self, device):
        self.asked = -1

    def joules(self):
        self.asked += 1
        return 100.0 * self.asked


def test_a_session_has_the_energy_of_its_epochs_and_none_before_the_first(
    make_trial, tmp_path, small_network, monkeypatch
):
    monkeypatch.setattr("raycifar.training.trial.EnergyMeter", FakeMeter)

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("raycifar.training.trial.fit", killed)
        with pytest.raises(KeyboardInterrupt):
            run(make_trial(epochs=2), tmp_path)
    assert [session.energy_joules for session in TrialFolder(tmp_path).history().sessions] == [0.0]
    run(make_trial(epochs=2), tmp_path)
    assert [session.energy_joules for session in TrialFolder(tmp_path).history().sessions] == [0.0, 200.0]


def test_a_loss_that_is_not_finite_is_written_down(make_trial, tmp_path):
    spec = make_trial(epochs=2, optimizer={"lr": 1e6})
    with pytest.raises(NonFiniteLossError):
        run(spec, tmp_path)
    error = TrialFolder(tmp_path).error()
    assert error.kind == "NonFiniteLossError"
    assert "epoch 1, step" in error.message
    assert TrialFolder(tmp_path).summary() is None


def test_a_checkpoint_of_another_versions_network_is_refused(make_trial, tmp_path, small_network, monkeypatch):
    run(make_trial(epochs=1), tmp_path)
    (tmp_path / "summary.json").unlink()
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: torch.nn.Sequential(Small()))
    with pytest.raises(OtherNetworkError, match="--fresh"):
        run(make_trial(epochs=2), tmp_path)
    error = TrialFolder(tmp_path).error()
    assert error.kind in {kind.__name__ for kind in HOPELESS}


def state_of(content):
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


OTHER_STATES = {
    "without a part": {"model": {}},
    "with another kind of part": {"model": 3},
    "with a text for a part": {"model": "text"},
    "with None": {"model": None},
}


@pytest.mark.parametrize("state", OTHER_STATES.values(), ids=OTHER_STATES)
def test_a_state_of_another_form_ends_the_trial_with_one_line(make_trial, tmp_path, small_network, state):
    run(make_trial(epochs=1), tmp_path)
    (tmp_path / "summary.json").unlink()
    write_state(tmp_path, state_of(state), TrialFolder(tmp_path).history())
    with pytest.raises(OtherNetworkError, match="--fresh"):
        run(make_trial(epochs=2), tmp_path)


class Code:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (state_of([1]), "it holds a list"),
        (state_of(Code()), "more than tensors, which may be code"),
        (state_of({"model": torch.zeros(9)})[:-30], ".*cut short"),
        (b"no archive", ".*cut short"),
    ],
)
def test_a_checkpoint_that_holds_no_state_ends_the_trial_with_one_line(
    make_trial, tmp_path, small_network, state, why, capsys
):
    run(make_trial(epochs=1), tmp_path)
    (tmp_path / "summary.json").unlink()
    write_state(tmp_path, state, TrialFolder(tmp_path).history())
    with pytest.raises(CheckpointError, match=rf"state\.pt: not a trial's state \({why}.*--fresh"):
        run(make_trial(epochs=2), tmp_path)
    assert "it ran" not in capsys.readouterr().out


def test_a_new_attempt_clears_the_old_error(make_trial, tmp_path, small_network):
    (tmp_path / "error.json").write_text("{}")
    run(make_trial(epochs=1), tmp_path)
    assert TrialFolder(tmp_path).error() is None


def test_batch_norm_comes_to_the_pretrained_network_calibrated_on_its_training_images(make_trial, tmp_path):
    trunk = build_vgg16(make_trial().model, 2).features.state_dict()
    for name in trunk:
        if name.endswith("bias"):  # they begin as zeros
            trunk[name] += 0.1 * torch.arange(len(trunk[name])).sin()
    save_file({f"features.{name}": value.contiguous() for name, value in trunk.items()}, tmp_path / "trunk")
    data, assets = load_splits(SAMPLE, make_trial().data), Assets(SAMPLE, tmp_path / "trunk")
    with_norm, without = (
        network(make_trial(model={"weights": "imagenet", "batch_norm": norm}), assets, data.train)
        for norm in (True, False)
    )
    with_norm.head.load_state_dict(without.head.state_dict())  # which is random
    with torch.inference_mode():
        expected, trained = without(data.train.images), with_norm.train()(data.train.images)
        assert torch.allclose(trained, expected, rtol=1e-3, atol=1e-3 * expected.std())


def _worker(rank, workers, spec, folder, rendezvous):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=workers)
    run_trial(spec, folder, ASSETS, Place("cpu", 1, f"here:{rank}"), Caller(lambda record, path: None))
    dist.barrier()
    gc.collect()  # the wrapped network lies in a cycle and holds gloo's threads: freed at exit, they abort the process
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "augmentation"),
    [(2, {"policy": "trivial", "cutmix": 1.0}), (4, {"crop": 4, "flip": "alternating", "cutout": 8})],
)
def test_several_workers_give_one_workers_numbers_to_rounding(make_trial, tmp_path, workers, augmentation):
    """The last batch, of 12 images, is smaller than the others."""
    data = {"train_images": 60, "holdout_images": 20, "test_images": 20}
    spec = make_trial(
        epochs=2, precision="fp32", augmentation=augmentation, data=data, averaging={"ema_decay": 0.5}, batch_size=16
    )
    one, several = tmp_path / "one", tmp_path / "several"
    several.mkdir()
    run(spec, one)
    mp.spawn(_worker, (workers, spec, several, tmp_path / "rendezvous"), nprocs=workers)
    for expected, record in zip(TrialFolder(one).history().epochs, TrialFolder(several).history().epochs, strict=True):
        assert record.train_loss == pytest.approx(expected.train_loss, rel=1e-3)
        assert record.val_loss == pytest.approx(expected.val_loss, rel=1e-3)
    (session,) = TrialFolder(several).history().sessions
    assert session.devices == [f"here:{rank}" for rank in range(workers)]
    assert TrialFolder(several).summary().workers == workers


@pytest.fixture
def small_network(monkeypatch):
    """In the place of VGG16, where the network does not matter."""
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: Small())


GB = 10**9


@pytest.mark.parametrize(
    ("sharing", "reserved", "remedy"),
    [
        (1, 70, "it has the GPU to itself: lower batch_size = 16"),
        (4, 20, "4 trials share the GPU: type --trials-per-gpu 3"),
        (4, 30, "4 trials share the GPU: type --trials-per-gpu 2"),
        (2, 79, "2 trials share the GPU: type --trials-per-gpu 1"),
    ],
)
def test_a_gpu_that_is_too_small_is_explained_with_what_fits(
    make_trial, tmp_path, monkeypatch, sharing, reserved, remedy
):
    """PyTorch's own error, from a network that raises it, on a stand-in for a GPU of 80 GB: there is none here."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 80 * GB))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: reserved * GB)

    class TooLarge(Small):
        def forward(self, images):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")

    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: TooLarge())
    with pytest.raises(GpuMemoryError):
        run_trial(make_trial(), tmp_path, Assets(SAMPLE, None), Place("cpu", 1, "here:0", sharing), Caller(print))
    error = TrialFolder(tmp_path).error()
    assert error.kind == "GpuMemoryError"
    assert error.message == f"trial 'tiny': CUDA out of memory: {remedy}, and give the same command again"


def test_a_gpu_that_cannot_even_be_asked_is_shared_by_one_less(make_trial, tmp_path, monkeypatch):
    full = RuntimeError("CUDA error: out of memory")
    monkeypatch.setattr(torch.cuda, "mem_get_info", Mock(side_effect=full))
    monkeypatch.setattr(raycifar.training.trial, "build_network", Mock(side_effect=full))
    with pytest.raises(GpuMemoryError, match="4 trials share the GPU: type --trials-per-gpu 3,"):
        run_trial(make_trial(), tmp_path, Assets(SAMPLE, None), Place("cpu", 1, "here:0", 4), Caller(print))


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` ...", "CUDA error: out of memory"),
        ("CUDNN_STATUS_ALLOC_FAILED. This error ...", "CUDNN_STATUS_ALLOC_FAILED"),
        (FULL_MEMORY[-1], "CUDA out of memory"),
    ],
)
def test_a_full_gpu_has_other_words_than_pytorchs(make_trial, tmp_path, monkeypatch, told, reason):
    error = RuntimeError(told) if isinstance(told, str) else told
    monkeypatch.setattr(raycifar.training.trial, "load_splits", Mock(side_effect=error))
    with pytest.raises(GpuMemoryError, match=rf"trial 'tiny': {reason}: it has the GPU to itself: lower batch_size"):
        run(make_trial(), tmp_path)


def test_what_slows_a_trial_down_is_told_at_once_and_on_record(make_trial, tmp_path, monkeypatch):
    class Slow(Small):
        def forward(self, images):
            if not heard:
                logging.getLogger("raycifar.networks.fused_norm").warning("no %s", "compiler")
            return super().forward(images)

    heard = []
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: Slow())
    caller = Caller(lambda record, path: None, warn=heard.append)
    run_trial(make_trial(epochs=2), tmp_path, ASSETS, PLACE, caller)
    assert heard == ["no compiler"]
    assert TrialFolder(tmp_path).history().sessions[-1].warnings == heard
    logging.getLogger("raycifar.networks.fused_norm").warning("of nobody's trial")
    assert heard == ["no compiler"]


def test_a_precision_that_the_device_lacks_is_refused_before_anything_is_trained(
    make_trial, tmp_path, small_network, monkeypatch
):
    """The processor of the test may have it, so what PyTorch says of the processor is replaced."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    with pytest.raises(PrecisionError, match=r"trial 'tiny': precision = 'bf16': this CPU has no .*: set precision ="):
        run(make_trial(precision="bf16"), tmp_path)
    assert not TrialFolder(tmp_path).history().epochs
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    run(make_trial(precision="bf16"), tmp_path)
    assert TrialFolder(tmp_path).summary().precision == "bf16"


def test_fp32_is_not_tf32(make_trial, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default
    set_up_torch(make_trial(), PLACE)
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_folder_that_takes_no_more_is_named_and_the_same_command_goes_on(
    make_trial, tmp_path, small_network, monkeypatch, number
):
    """The error of a full disk, from a stand-in for the second checkpoint's writing."""
    real, spec = raycifar.training.checkpoint_writer.save_checkpoint, make_trial(epochs=3)

    def full(folder, state, history):
        if len(history.epochs) == 2:
            raise OSError(number, os.strerror(number))
        return real(folder, state, history)

    monkeypatch.setattr(raycifar.training.checkpoint_writer, "save_checkpoint", full)
    with pytest.raises(StorageError):
        run(spec, tmp_path)
    error = TrialFolder(tmp_path).error()
    assert error.kind == "StorageError"
    assert error.message.startswith(f"{tmp_path}: cannot be written ({os.strerror(number)}): make room")
    assert newest_checkpoint(tmp_path).name == "checkpoint_000001"
    monkeypatch.setattr(raycifar.training.checkpoint_writer, "save_checkpoint", real)
    assert run(spec, tmp_path).epochs_run == 3
    assert [session.first_epoch for session in TrialFolder(tmp_path).history().sessions] == [1, 2]


def test_an_error_that_cannot_be_written_down_is_raised_all_the_same(make_trial, tmp_path, small_network, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(raycifar.training.checkpoint_writer, "save_checkpoint", full)
    monkeypatch.setattr(TrialFolder, "write_error", full)
    with pytest.raises(StorageError, match="No space left on device"):
        run(make_trial(), tmp_path)


def test_data_that_may_not_be_read_is_no_matter_of_the_trials_folder(make_trial, tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/cifar10")

    monkeypatch.setattr(raycifar.training.trial, "load_splits", denied)
    with pytest.raises(PermissionError):
        run(make_trial(), tmp_path)


def test_a_resumed_trial_keeps_its_precision_on_a_device_that_would_choose_another(
    make_trial, tmp_path, small_network, monkeypatch
):
    """A trial that begins where bf16 is native goes on where it is not, and ends as if it had stayed."""
    spec = make_trial(epochs=2)
    for folder, devices in ((tmp_path / "stays", ("bf16", "bf16")), (tmp_path / "moves", ("bf16", "fp32"))):
        for device, stops in zip(devices, (True, False), strict=True):
            monkeypatch.setattr(raycifar.training.session, "resolve_precision", lambda *_, device=device: device)
            try:
                run(spec, folder, stop if stops else lambda *_: None)
            except KeyboardInterrupt:
                continue
    stays, moves = (TrialFolder(tmp_path / name) for name in ("stays", "moves"))
    assert [session.precision for session in moves.history().sessions] == ["bf16", "bf16"]
    assert moves.summary().precision == "bf16"
    assert moves.summary().fingerprint == spec.fingerprint()
    assert numbers(moves.history().epochs) == numbers(stays.history().epochs)


def stop(*_):
    raise KeyboardInterrupt


class FastDisk:
    """A fake: each write is over before the training goes on."""

    def __init__(self, *_):
        pass

    def submit(self, write, *arguments):
        done = Future()
        done.set_result(write(*arguments))
        return done

    def shutdown(self):
        pass


@pytest.mark.parametrize(("heard", "told"), [(None, [3]), (0, [1, 2, 3]), (1, [2, 3]), (2, [3])])
def test_epochs_that_were_saved_and_not_told_of_are_told_of_first(
    make_trial, tmp_path, small_network, monkeypatch, heard, told
):
    monkeypatch.setattr(raycifar.training.checkpoint_writer, "ThreadPoolExecutor", FastDisk)
    spec, told_of = make_trial(epochs=3), []

    def stop_at_two(record, _):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path, stop_at_two)
    caller = Caller(lambda record, path: told_of.append((record.epoch, path)), heard)
    run_trial(spec, tmp_path, ASSETS, PLACE, caller)
    assert told_of == [(epoch, tmp_path / f"checkpoint_{epoch:06d}") for epoch in told]


def test_a_clock_that_is_set_back_makes_no_negative_time(make_trial, tmp_path, small_network, monkeypatch):
    """The wall clock, replaced by one that goes back an hour at every look."""
    hours = iter(range(1000))
    monkeypatch.setattr(time, "time", lambda: 1.8e9 - 3600 * next(hours))
    summary = run(make_trial(), tmp_path)
    history = TrialFolder(tmp_path).history()
    seconds = [
        getattr(record, f"{part}_seconds") for record in history.epochs for part in ("train", "val", "checkpoint")
    ]
    assert min(*seconds, history.sessions[0].startup_seconds, summary.startup_seconds, summary.test_seconds) >= 0
    assert max(*seconds, summary.startup_seconds) < 3600
    assert history.sessions[0].ended_at >= history.sessions[0].started_at


def test_the_seed_decides_the_weights_that_a_trial_begins_with(make_trial):
    train = load_splits(SAMPLE, make_trial().data).train
    one, other = (network(make_trial(seed=seed), ASSETS, train).head[1].weight for seed in (1, 2))
    assert not one.equal(other)


def linear():
    """A network that sees the difference between left and right."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Floats(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)))


@pytest.mark.parametrize("averaging", [{}, {"ema_decay": 0.5}], ids=["as trained", "averaged"])
def test_what_is_tested_is_the_best_epochs_network_also_on_mirror_images(make_trial, tmp_path, monkeypatch, averaging):
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: linear())
    data = {"train_images": 40, "holdout_images": 20, "test_images": 160}
    spec = make_trial(epochs=8, optimizer={"lr": 0.003}, averaging=averaging, data=data, precision="fp32")
    summary = run(spec, tmp_path)
    assert summary.best_epoch < summary.epochs_run, "the last epoch is the best one: nothing is tested here"
    model, test = linear(), load_splits(SAMPLE, spec.data).test
    model.load_state_dict(load_file(tmp_path / "best.safetensors"))
    with torch.inference_mode():
        logits, mirrored = model(test.images), model(test.images.flip(-1))
    assert np.allclose(np.load(tmp_path / "predictions.npz")["logits"], logits, atol=1e-3)
    both = (logits.softmax(1) + mirrored.softmax(1)).argmax(1)
    right, unflipped = ((answers == test.labels).float().mean().item() for answers in (both, logits.argmax(1)))
    assert right != unflipped, "mirror images make no difference: nothing is tested here"
    assert summary.test_accuracy_flip == pytest.approx(right)


def test_mirror_images_are_not_asked_where_they_are_of_another_class(make_trial, tmp_path, monkeypatch):
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: linear())
    digits = CIFAR10.model_copy(update={"mirror": False})
    summary = run(make_trial().with_facts(digits), tmp_path)
    assert summary.test_accuracy_flip is None
    assert TrialFolder(tmp_path).summary() == summary
    assert run(make_trial(), tmp_path / "mirrored").test_accuracy_flip is not None


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_all_that_a_trial_computes_is_in_its_precision(make_trial, tmp_path, monkeypatch, precision, dtype):
    class Watched(Small):
        def forward(self, images):
            logits = super().forward(images)
            seen.add((self.training, logits.dtype))
            return logits

    seen = set()
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: Watched())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    averaging = {"ema_decay": 0.9, "ema_recompute_batch_norm": True}  # its pass is in training mode
    run(make_trial(precision=precision, averaging=averaging), tmp_path)
    assert seen == {(True, dtype), (False, dtype)}


def test_the_last_epochs_checkpoint_is_part_of_the_summarys_time(make_trial, tmp_path, small_network):
    assert run(make_trial(epochs=1), tmp_path, lambda record, path: time.sleep(0.2)).checkpoint_seconds >= 0.2


def test_the_last_checkpoint_is_written_while_the_trial_is_tested_and_before_its_summary(
    make_trial, tmp_path, small_network, monkeypatch
):
    written = []

    def save(folder, state, history):
        path, until = folder / "predictions.npz", time.monotonic() + 20
        while history.epochs[-1].epoch == 3 and not path.exists():  # the last write goes on until the test is over
            assert time.monotonic() < until
            time.sleep(0.01)
        written.append((folder / "summary.json").exists())
        return save_checkpoint(folder, state, history)

    monkeypatch.setattr(raycifar.training.checkpoint_writer, "save_checkpoint", save)
    run(make_trial(epochs=3), tmp_path, lambda record, path: time.sleep(0.2))  # so that no epoch outruns a write
    assert not any(written)
    assert newest_checkpoint(tmp_path).name == "checkpoint_000003"
    assert len(list(tmp_path.glob("checkpoint_*"))) == len(written) > 1, (
        "Train deletes them, and fails where one is gone"
    )
    assert TrialFolder(tmp_path).summary() is not None


def test_a_resumed_trial_keeps_its_threads(make_trial, tmp_path, small_network):
    spec = make_trial()
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path, stop)
    run_trial(spec, tmp_path, ASSETS, replace(PLACE, threads=2), Caller(lambda record, path: None))
    assert [session.threads for session in TrialFolder(tmp_path).history().sessions] == [1, 1]


@pytest.mark.parametrize("deterministic", [False, True])
def test_only_a_deterministic_trial_gives_up_speed_for_it(make_trial, monkeypatch, deterministic):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", deterministic)
    try:
        set_up_torch(make_trial(deterministic=deterministic), replace(PLACE, threads=2))
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert torch.backends.cudnn.benchmark == (not deterministic)
        assert torch.get_num_threads() == 2
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)


def test_cublas_is_told_of_determinism_before_the_first_trial_for_it_asks_once(make_trial, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_up_torch(make_trial(), PLACE)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_each_trial_of_a_process_hears_that_triton_does_not_run(make_trial, tmp_path, monkeypatch):
    class OnAGpu(Small):
        def forward(self, images):
            fused_norm.works(torch.device("cpu"), torch.float32)
            return super().forward(images)

    monkeypatch.setattr(fused_norm, "self_test", lambda *_: "no compiler")
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: OnAGpu())
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run_trial(make_trial(), tmp_path / name, ASSETS, PLACE, Caller(lambda record, path: None))
        warnings = TrialFolder(tmp_path / name).history().sessions[-1].warnings
        assert warnings == ["batch norm's steps are launched one by one: no compiler"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), RuntimeError("another")])
def test_what_comes_up_for_a_reason_of_its_own_is_no_full_memory(error):
    error.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    error.__suppress_context__ = isinstance(error, RuntimeError)  # as `from None` sets it
    assert full_memory(error) is None
