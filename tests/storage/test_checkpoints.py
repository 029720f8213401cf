import errno
import os
import resource
import subprocess
import sys

import pytest

from raycifar.storage.checkpoints import (
    KEPT,
    checkpoint_epoch,
    checkpoint_name,
    newest_checkpoint,
    prune_checkpoints,
    saved_history,
    tidy_checkpoints,
)
from raycifar.storage.files import RecordError
from raycifar.storage.records import History
from tests.support.checkpoints import STATE, write


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_read(tmp_path):
    path = write(tmp_path, 2)
    assert path == tmp_path / "checkpoint_000002"
    assert (path / "state.pt").read_bytes() == STATE
    assert [epoch.epoch for epoch in saved_history(tmp_path).epochs] == [1, 2]


def test_a_folder_without_checkpoints_has_no_newest(tmp_path):
    (tmp_path / "checkpoint_of_something_else").mkdir()
    assert newest_checkpoint(tmp_path) is None
    assert saved_history(tmp_path) == History()


def test_the_newest_is_the_one_of_the_last_epoch_even_past_a_million(tmp_path):
    write(tmp_path, 9)
    os.rename(tmp_path / "checkpoint_000009", tmp_path / "checkpoint_1000000")
    write(tmp_path, 10)
    assert newest_checkpoint(tmp_path).name == "checkpoint_1000000"


@pytest.mark.parametrize("file", ["state.pt", "history.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: os.truncate(path, 10), lambda path: path.unlink()])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, file, damage):
    before, newest = write(tmp_path, 1), write(tmp_path, 2)
    damage(newest / file)
    assert newest_checkpoint(tmp_path) == before
    assert len(saved_history(tmp_path).epochs) == 1
    (problem,) = tidy_checkpoints(tmp_path)
    assert problem.startswith(str(newest))
    assert [path.name for path in tmp_path.iterdir()] == [before.name]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"state.pt": 3}'])
def test_a_checkpoint_without_a_sound_manifest_is_not_believed(tmp_path, content):
    path = write(tmp_path, 1)
    (path / "manifest.json").write_text(content)
    assert newest_checkpoint(tmp_path) is None


def test_an_unsound_checkpoint_of_the_same_epoch_is_replaced(tmp_path):
    path = write(tmp_path, 1)
    flip_a_bit(path / "state.pt")
    write(tmp_path, 1)
    assert newest_checkpoint(tmp_path) == path


def test_pruning_keeps_the_newest_and_removes_what_a_killed_writer_left(tmp_path):
    for epoch in range(1, 5):
        write(tmp_path, epoch)
    (tmp_path / ".checkpoint_000005.12345.partial").mkdir()
    prune_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_000003", "checkpoint_000004"]
    assert KEPT == 2


def test_a_writer_killed_at_any_moment_leaves_a_sound_checkpoint(tmp_path):
    """A process that saves in a loop is killed a few times; what it leaves is whole, or not there."""
    code = (
        "import sys; from pathlib import Path; from tests.support.checkpoints import write\n"
        "for epoch in range(1, 10000): write(Path(sys.argv[1]), epoch); print(epoch, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for line in writer.stdout:
            if int(line) >= 20:
                writer.kill()
                break
        rest = writer.stdout.read().split()
    saved = int(rest[-1]) if rest else 20
    assert int(newest_checkpoint(tmp_path).name[-6:]) in (saved, saved + 1)
    assert tidy_checkpoints(tmp_path) == []


def test_damage_never_costs_the_sound_checkpoint_below(tmp_path):
    for epoch in (1, 2, 3):
        write(tmp_path, epoch)
    for epoch in (2, 3):
        flip_a_bit(tmp_path / f"checkpoint_{epoch:06d}" / "state.pt")
    assert len(tidy_checkpoints(tmp_path)) == 2
    assert newest_checkpoint(tmp_path).name == "checkpoint_000001"


@pytest.fixture
def a_small_disk():
    """The kernel refuses every file of more than 1,500 bytes, as a full disk refuses the next block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(tmp_path, request):
    before = write(tmp_path, 1)
    request.getfixturevalue("a_small_disk")
    with pytest.raises(OSError, match="File too large"):
        write(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == before
    assert list(tmp_path.iterdir()) == [before]


def test_a_checkpoints_name_and_its_epoch_say_the_same(tmp_path):
    assert checkpoint_epoch(tmp_path / checkpoint_name(12)) == 12
    with pytest.raises(ValueError, match="latest: not a checkpoint's name"):
        checkpoint_epoch(tmp_path / "latest")


def test_pruning_leaves_alone_what_this_process_is_writing(tmp_path):
    """A checkpoint is written behind the training, which prunes meanwhile."""
    (tmp_path / f".checkpoint_000005.{os.getpid()}.partial").mkdir()
    prune_checkpoints(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_before_a_session_nothing_is_being_written_so_all_that_was_left_goes(tmp_path):
    """In a container, the process that was killed may have had this one's number."""
    (tmp_path / f".checkpoint_000005.0123456789abcdef.{os.getpid()}.partial").mkdir()
    assert tidy_checkpoints(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_end(tmp_path):
    """Makes folders in a folder, deeper than Python recurses; deleted afterwards, for pytest cannot."""

    def fill(folder):
        at = os.open(folder, os.O_RDONLY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=at)
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(at)

    yield fill
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_a_checkpoint_folder_without_end_is_no_reason_to_stop(tmp_path, without_end):
    write(tmp_path, 1), write(tmp_path, 2)
    without_end(tmp_path / "checkpoint_000001")
    write(tmp_path, 3)
    prune_checkpoints(tmp_path)
    assert newest_checkpoint(tmp_path).name == "checkpoint_000003"


@pytest.mark.parametrize("reader", ["raycifar.storage.checkpoints.open_file", "raycifar.storage.files.read_file"])
def test_what_the_system_does_not_let_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch, reader):
    write(tmp_path, 1), write(tmp_path, 2)
    before = list(tmp_path.iterdir())

    def refused(path, *_):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(reader, refused)
        for call in (newest_checkpoint, saved_history, tidy_checkpoints):
            with pytest.raises(RecordError, match=r"checkpoint_000002: cannot be read \(Too many open files\)"):
                call(tmp_path)
    assert list(tmp_path.iterdir()) == before
    assert newest_checkpoint(tmp_path).name == "checkpoint_000002"
