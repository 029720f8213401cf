import json
import os
import signal
import subprocess
import sys
import time

import pytest

from raycifar.records import (
    EpochRecord,
    History,
    Invocation,
    RecordError,
    Session,
    SweepFolder,
    SweepRecord,
    TrialError,
    TrialFolder,
    TrialSummary,
    read_json,
    write_json,
)

SAMPLES = {"str": "x", "int": 3, "float": 0.1, "bool": True, "list": ["a"], "dict": {"a": "1"}}


def sample(record):
    """A record with a value of its type in every field."""
    kinds = {name: getattr(kind, "__origin__", kind) for name, kind in record.__annotations__.items()}
    return record(**{name: SAMPLES.get(getattr(kind, "__name__", "")) for name, kind in kinds.items()})


HISTORY = History([sample(EpochRecord)], [sample(Session)])
RECORDS = [sample(r) for r in (EpochRecord, Session, TrialSummary, TrialError, Invocation, SweepRecord)] + [HISTORY]
by_type = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


@by_type
def test_a_record_goes_to_json_and_back(record):
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


@by_type
def test_keys_of_a_newer_version_are_ignored(record):
    assert type(record).from_json(record.to_json() | {"of_a_newer_version": 1}) == record


def test_keys_of_a_newer_version_are_ignored_inside_a_history():
    data = HISTORY.to_json()
    data["epochs"][0]["of_a_newer_version"] = data["sessions"][0]["of_a_newer_version"] = 1
    assert History.from_json(data) == HISTORY


def test_folders_return_what_was_written(tmp_path):
    sweep = SweepFolder(tmp_path)
    trial = sweep.trial("a")
    trial.path.mkdir()
    trial.write_history(HISTORY)
    trial.write_summary(sample(TrialSummary))
    trial.write_error(sample(TrialError))
    sweep.write_record(sample(SweepRecord))
    sweep.write_invocations([sample(Invocation)] * 2)
    assert (trial.history(), trial.summary(), trial.error()) == (HISTORY, sample(TrialSummary), sample(TrialError))
    assert (sweep.record(), sweep.invocations()) == (sample(SweepRecord), [sample(Invocation)] * 2)


def test_folders_that_hold_nothing_yet_are_no_error(tmp_path):
    sweep = SweepFolder(tmp_path / "missing")
    trial = sweep.trial("a")
    assert (sweep.record(), sweep.invocations()) == (None, [])
    assert (trial.history(), trial.summary(), trial.error()) == (History(), None, None)


def test_clearing_an_error_twice_is_fine(tmp_path):
    trial = TrialFolder(tmp_path)
    trial.write_error(sample(TrialError))
    trial.clear_error()
    trial.clear_error()
    assert trial.error() is None


READERS = {
    "history.json": lambda path: TrialFolder(path).history(),
    "summary.json": lambda path: TrialFolder(path).summary(),
    "error.json": lambda path: TrialFolder(path).error(),
    "sweep.json": lambda path: SweepFolder(path).record(),
    "invocations.json": lambda path: SweepFolder(path).invocations(),
}
CORRUPT = {
    "empty": b"",
    "cut short": b'{"epochs": [{"epoch": 1, "lr"',
    "not UTF-8": b"\xff\xfe",
    "zeros": bytes(512),
    "nested deeply": b"[" * 100_000,
    "a number of 5,000 digits": b"9" * 5000,
    "null": b"null",
    "a number": b"3",
    "a list of numbers": b"[3]",
    "fields of the wrong type": b'{"epochs": 3, "trial": "a"}',
    "fields missing inside": b'{"epochs": [{"epoch": 1}], "trial": "a"}',
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT.keys())
@pytest.mark.parametrize("name", READERS)
def test_a_corrupt_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=name):
        READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_a_files_place_is_named(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(RecordError, match=name):
        READERS[name](tmp_path)


def test_writing_leaves_one_file(tmp_path):
    for value in (1, 2):
        write_json(tmp_path / "a.json", value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path):
    write_json(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", ["x" * 100_000, object()])
    assert read_json(tmp_path / "a.json") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from raycifar.records import write_json
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_json(Path(sys.argv[1]), "new")
"""


def test_a_writer_killed_before_the_rename_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, "old")
    writer = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RENAME, path], check=False)
    assert writer.returncode == -signal.SIGKILL
    assert read_json(path) == "old"


WRITES_FOR_EVER = """
import itertools, sys
from pathlib import Path
from raycifar.records import write_json
for i in itertools.count():
    write_json(Path(sys.argv[1]), [i] * 5000)
"""


def test_a_reader_never_sees_half_of_a_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, [0] * 5000)
    writer = subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, path])
    try:
        seen, until = set(), time.monotonic() + 20
        while len(seen) < 20 and time.monotonic() < until:
            numbers = read_json(path)
            assert numbers == numbers[:1] * 5000
            seen.add(numbers[0])
    finally:
        writer.kill()
        writer.wait()
    assert len(seen) == 20
    assert len(set(read_json(path))) == 1


def test_the_file_is_on_disk_before_it_takes_the_old_ones_place(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    monkeypatch.setattr(os, "replace", lambda *_: calls.append("replace"))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace"]
