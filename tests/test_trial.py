"""One whole trial with VGG16 on a few real images, alone and with several gloo workers."""

import os
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from raycifar.checkpoints import newest_checkpoint
from raycifar.data import load_cifar10
from raycifar.records import TrialFolder
from raycifar.training import NonFiniteLossError
from raycifar.trial import Assets, Place, run_trial
from tests.conftest import SAMPLE
from tests.test_training import TIMES

ASSETS = Assets(SAMPLE, None)
PLACE = Place("cpu", 1, "here:cpu")


def run(spec, folder, on_epoch=lambda record, path: None):
    folder.mkdir(exist_ok=True)
    return run_trial(spec, folder, ASSETS, PLACE, on_epoch)


def numbers(record):
    return {key: value for key, value in asdict(record).items() if key not in TIMES}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request):
    """A finished trial: its spec, folder and summary."""
    from raycifar.spec import TrialSpec

    data = {"train_images": 40, "holdout_images": 20, "test_images": 20}
    model = {"weights": "random", "batch_norm": True}
    spec = TrialSpec.model_validate(
        {"name": "t", "arm": "t", "seed": 1, "epochs": 3, "batch_size": 20, "model": model, "data": data}
    )
    folder = tmp_path_factory.mktemp("trial")
    return spec, folder, run(spec, folder)


def test_a_finished_trial_leaves_what_the_contract_says(finished):
    _, folder, _ = finished
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("checkpoint_"))
    assert names == ["best.safetensors", "history.json", "predictions.npz", "summary.json"]


def test_history_has_every_epoch_once_and_its_session(finished):
    _, folder, _ = finished
    history = TrialFolder(folder).history()
    assert [record.epoch for record in history.epochs] == [1, 2, 3]
    (session,) = history.sessions
    assert (session.first_epoch, session.devices, session.device_kind) == (1, ["here:cpu"], "cpu")
    assert session.started_at < history.epochs[0].finished_at < session.ended_at


def test_the_summary_says_what_the_history_says(finished):
    _, folder, summary = finished
    files = TrialFolder(folder)
    epochs = files.history().epochs
    assert files.summary() == summary
    assert summary.best_val_accuracy == max(record.val_accuracy for record in epochs)
    assert summary.train_seconds == pytest.approx(sum(record.train_seconds for record in epochs))
    assert (summary.train_images, summary.val_images, summary.test_images) == (40, 20, 20)
    assert summary.fingerprint == finished[0].fingerprint()


def test_predictions_give_the_test_accuracy_again(finished):
    spec, folder, summary = finished
    saved = np.load(folder / "predictions.npz", allow_pickle=False)
    test = load_cifar10(SAMPLE, spec.data).test
    assert saved["labels"].tolist() == test.labels.tolist()
    assert (saved["logits"].argmax(1) == saved["labels"]).mean() == pytest.approx(summary.test_accuracy)


def test_the_tested_weights_are_the_best_ones(finished):
    _, folder, _ = finished
    state = torch.load(newest_checkpoint(folder) / "state.pt", weights_only=True)
    best = load_file(folder / "best.safetensors")
    assert best.keys() == state["best"]["best_weights"].keys()
    assert all(best[name].equal(weight) for name, weight in state["best"]["best_weights"].items())


def test_an_interrupted_trial_resumes_to_the_same_numbers_and_weights(finished, tmp_path):
    spec, folder, _ = finished

    def interrupt(record, path):
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path, interrupt)
    torch.rand(5)
    run(spec, tmp_path)
    before, after = TrialFolder(folder).history(), TrialFolder(tmp_path).history()
    assert [numbers(record) for record in after.epochs] == [numbers(record) for record in before.epochs]
    assert [session.first_epoch for session in after.sessions] == [1, 3]
    expected, resumed = load_file(folder / "best.safetensors"), load_file(tmp_path / "best.safetensors")
    assert all(expected[name].equal(resumed[name]) for name in expected)


def test_a_loss_that_is_not_finite_is_written_down(make_trial, tmp_path):
    spec = make_trial(epochs=2, optimizer={"lr": 1e6})
    with pytest.raises(NonFiniteLossError):
        run(spec, tmp_path)
    error = TrialFolder(tmp_path).error()
    assert error.kind == "NonFiniteLossError"
    assert "epoch 1, step" in error.message
    assert TrialFolder(tmp_path).summary() is None


def test_a_new_attempt_clears_the_old_error(make_trial, tmp_path):
    (tmp_path / "error.json").write_text("{}")
    run(make_trial(epochs=1), tmp_path)
    assert TrialFolder(tmp_path).error() is None


def _worker(rank, workers, spec, folder, rendezvous):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=workers)
    run_trial(spec, folder, ASSETS, Place("cpu", 1, f"here:{rank}"), lambda record, path: None)
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_give_one_workers_numbers_to_rounding(make_trial, tmp_path, workers):
    """The last batch, of 12 images, is smaller than the others."""
    augmentation = {"crop": 4, "flip": "alternating", "cutout": 8}
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
