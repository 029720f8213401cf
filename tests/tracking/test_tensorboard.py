"""TensorBoard's files, read back. Epochs are synthetic (see sweep_folders)."""

import threading

import pytest

from raycifar.tracking.listener import Start
from raycifar.tracking.tensorboard import TAGS, TensorBoard
from tests.support.event_files import read_scalars
from tests.support.sweep_folders import write_sweep


@pytest.fixture
def folder(tmp_path):
    return write_sweep(tmp_path / "q", {"a": (1, 3)})


def test_a_trial_leaves_one_point_an_epoch_under_each_tag_and_its_test_at_the_best_epoch(folder):
    history, summary = folder.trial("a").history(), folder.trial("a").summary()
    board = TensorBoard(folder)
    board.start("a", Start({}, ()))
    for record in history.epochs:
        board.epoch("a", record)
    board.summary("a", summary)
    board.state("a", "done")
    scalars = read_scalars(folder.trial("a").path)
    assert {key for key in scalars if "test" not in key[0]} == {(tag, epoch) for tag in TAGS for epoch in (1, 2, 3)}
    assert {key for key in scalars if "test" in key[0]} == {
        ("accuracy/test", summary.best_epoch),
        ("loss/test", summary.best_epoch),
    }
    assert scalars["accuracy/validation", 2] == pytest.approx([history.epochs[1].val_accuracy])
    assert all(len(values) == 1 for values in scalars.values())


def test_a_resumed_trial_has_one_file_from_its_first_epoch_to_its_last(folder):
    trial = folder.trial("a")
    epochs = trial.history().epochs
    first = TensorBoard(folder)
    first.start("a", Start({}, ()))
    first.epoch("a", epochs[0])
    first.epoch("a", epochs[1])  # its checkpoint is lost: the epoch will be trained again
    (written,) = trial.path.glob("events.out.tfevents.*")
    written.rename(trial.path / "events.out.tfevents.1700000000.host")  # the name holds the second of its beginning

    second = TensorBoard(folder)
    second.start("a", Start({}, epochs[:1]))
    second.epoch("a", epochs[1])
    second.epoch("a", epochs[2])
    second.state("a", "failed")
    assert len(list(trial.path.glob("events.out.tfevents.*"))) == 1
    scalars = read_scalars(trial.path)
    assert {step for _, step in scalars} == {1, 2, 3}
    assert all(len(values) == 1 for values in scalars.values())


def test_an_epoch_that_was_heard_but_not_saved_stays_when_its_driver_starts_again(folder):
    history = folder.trial("a").history()
    board = TensorBoard(folder)
    board.start("a", Start({}, ()))
    for record in history.epochs[:2]:
        board.epoch("a", record)
    board.start("a", Start({}, history.epochs[:1]))
    board.epoch("a", history.epochs[2])  # the second one is not told again
    board.state("a", "done")
    scalars = read_scalars(folder.trial("a").path)
    assert {step for _, step in scalars} == {1, 2, 3}
    assert all(len(values) == 1 for values in scalars.values())


def test_no_thread_writes_that_an_interruption_could_leave_waiting(folder):
    """The interpreter may lose the wake-up of a thread where a signal's handler raises as it is sent."""
    board, before = TensorBoard(folder), threading.active_count()
    board.start("a", Start({}, ()))
    board.epoch("a", folder.trial("a").history().epochs[0])
    assert threading.active_count() == before
    board.close()
