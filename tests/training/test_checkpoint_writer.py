"""Checkpoints behind the training: every epoch's on a quick disk, as many as it manages on a slow one."""

import errno
import io
import os
import threading
import time

import pytest
import torch

from raycifar.storage.checkpoints import newest_checkpoint
from raycifar.storage.records import EpochRecord, History
from raycifar.training import checkpoint_writer
from raycifar.training.checkpoint_writer import CheckpointWriter, load_checkpoint, save_checkpoint
from raycifar.training.loop import TrainState
from tests.support.networks import Small


def epoch(number, seconds):
    scores = {"lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    times = {"val_seconds": 0.0, "checkpoint_seconds": 0.0, "images_per_second": 1.0, "finished_at": 0.0}
    return EpochRecord(epoch=number, train_seconds=seconds, **scores, **times)


def history(epochs, seconds):
    return History([epoch(number, seconds) for number in range(1, epochs + 1)])


@pytest.fixture
def state(make_trial):
    return TrainState(Small(), make_trial())


@pytest.fixture
def slow_disk(monkeypatch):
    """A fake: once the first checkpoint is written, writing takes until the event is set."""
    finish, calls = threading.Event(), []

    def save(folder, state, history):
        calls.append(history.epochs[-1].epoch)
        assert len(calls) == 1 or finish.wait(10)
        return save_checkpoint(folder, state, history)

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", save)
    return finish


def test_what_was_saved_is_loaded(tmp_path):
    saved = {"model": {"weight": torch.arange(1000.0)}, "progress": {"epoch": 2}}
    path = save_checkpoint(tmp_path, saved, history(2, 1.0))
    loaded, its_history = load_checkpoint(path)
    assert path == tmp_path / "checkpoint_000002"
    assert loaded["model"]["weight"].equal(saved["model"]["weight"])
    assert [epoch.epoch for epoch in its_history.epochs] == [1, 2]


@pytest.mark.parametrize("room", [0, 40_000, 300_000])
def test_a_disk_that_fills_up_meanwhile_is_an_error_of_the_system(tmp_path, monkeypatch, room):
    class Full(io.BytesIO):
        def write(self, content):
            if self.tell() + len(content) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", lambda folder, write, history: write(Full()))
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, {str(i): torch.zeros(10_000) for i in range(20)}, history(1, 1.0))


def test_a_checkpoint_is_never_unpickled_beyond_tensors(tmp_path):
    path = save_checkpoint(tmp_path, {}, history(1, 1.0))
    torch.save({"evil": os.system}, path / "state.pt")
    with pytest.raises(Exception, match="weights_only"):
        load_checkpoint(path)


def begin(behind, state):
    """The first write, which nobody waits for in training: how long one takes is known."""
    behind.save(state, history(1, 1e-6), last=False)
    behind.finish()


def test_where_an_epoch_takes_long_its_checkpoint_is_there_when_it_is_reported(state, tmp_path):
    with CheckpointWriter(tmp_path) as behind:
        begin(behind, state)
        saved = [behind.save(state, history(number, 1000.0), last=False) for number in (2, 3)]
    assert [path.name for path in saved] == ["checkpoint_000002", "checkpoint_000003"]


def test_the_first_write_is_not_waited_for(state, tmp_path, monkeypatch):
    finish = threading.Event()
    slow = lambda *arguments: finish.wait(10) and save_checkpoint(*arguments)  # noqa: E731
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    with CheckpointWriter(tmp_path) as behind:
        assert behind.save(state, history(1, 1000.0), last=False) is None
        finish.set()
        behind.save(state, history(2, 1000.0), last=True)
    assert (tmp_path / "checkpoint_000002").is_dir()


def test_on_a_slow_disk_epochs_do_not_wait_and_the_last_one_is_saved_by_the_end(state, tmp_path, slow_disk):
    with CheckpointWriter(tmp_path) as behind:
        begin(behind, state)
        saved = [behind.save(state, history(number, 1e-6), last=False) for number in (2, 3, 4)]
        slow_disk.set()
        behind.save(state, history(5, 1e-6), last=True)
        behind.finish()
        assert newest_checkpoint(tmp_path).name == "checkpoint_000005"
    assert saved == [None, None, None]
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "5"]


def test_a_finished_checkpoint_is_handed_over_with_a_later_epoch(state, tmp_path, slow_disk):
    with CheckpointWriter(tmp_path) as behind:
        begin(behind, state)
        behind.save(state, history(2, 1e-6), last=False)
        slow_disk.set()
        while (completed := behind.save(state, history(3, 1e-6), last=False)) is None:
            time.sleep(0.01)
        assert completed.name == "checkpoint_000002"


def test_what_is_saved_is_the_state_and_the_history_of_that_epoch_though_training_goes_on(state, tmp_path, slow_disk):
    with CheckpointWriter(tmp_path) as behind:
        begin(behind, state)
        records = history(2, 1e-6)
        expected = state.model.head.weight.detach().clone()
        behind.save(state, records, last=False)
        with torch.no_grad():
            state.model.head.weight.zero_()
        records.epochs.append(epoch(3, 1.0))
        slow_disk.set()
    saved, its_history = load_checkpoint(tmp_path / "checkpoint_000002")
    assert saved["model"]["head.weight"].equal(expected)
    assert [record.epoch for record in its_history.epochs] == [1, 2]


def test_an_error_in_writing_reaches_the_training(state, tmp_path, slow_disk, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with CheckpointWriter(tmp_path) as behind:
        begin(behind, state)
        monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)
        behind.save(state, history(2, 1e-6), last=False)
        with pytest.raises(OSError, match="No space left"):
            behind.save(state, history(3, 1e-6), last=True)


def test_the_last_write_is_not_waited_for_before_the_end_and_its_error_is_told_there(state, tmp_path, monkeypatch):
    goes_on = threading.Event()

    def full(*_):
        assert goes_on.wait(10)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", full)
    with CheckpointWriter(tmp_path) as behind:
        assert behind.save(state, history(1, 1.0), last=True) is None
        goes_on.set()
        with pytest.raises(OSError, match="No space left"):
            behind.finish()
