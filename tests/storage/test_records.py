import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from raycifar.storage.beneath import Beneath, sweep_leftovers
from raycifar.storage.files import RecordError, read_json, write_json
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import (
    SHARE,
    UNIX_SECONDS,
    EpochRecord,
    History,
    Invocation,
    Session,
    SweepRecord,
    TrialError,
    TrialSummary,
)
from tests.support.hostile import NO_FILE, nothing_waits_for_ever  # noqa: F401

SAMPLES = {"str": "x", "int": 3, "float": 0.1, "bool": True, "list": ["a"], "dict": {"a": "1"}}


def sample(record):
    """A record with a value of its type in every field."""
    kinds = {name: getattr(kind, "__origin__", kind) for name, kind in record.__annotations__.items()}
    return record(**{name: SAMPLES.get(getattr(kind, "__name__", "")) for name, kind in kinds.items()})


HISTORY = History([replace(sample(EpochRecord), epoch=1)], [sample(Session)])
RECORDS = [sample(r) for r in (EpochRecord, Session, TrialSummary, TrialError, Invocation, SweepRecord)] + [HISTORY]
by_type = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)


@by_type
def test_a_record_goes_to_json_and_back(record):
    assert type(record).from_json(json.loads(json.dumps(record.to_json()))) == record


def test_whole_numbers_where_fractions_belong_become_such():
    data = HISTORY.to_json()
    data["epochs"][0]["lr"], data["sessions"][0]["energy_joules"] = 10**38, 3
    history = History.from_json(data)
    assert [type(x) for x in (history.epochs[0].lr, history.sessions[0].energy_joules)] == [float, float]


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
    "too many items": b"[" + b"0," * 1_500_000 + b"0]",
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


@pytest.mark.parametrize("put", NO_FILE.values(), ids=NO_FILE)
def test_what_is_no_file_is_named_and_neither_waited_for_nor_swallowed(tmp_path, put):
    put(tmp_path / "summary.json")
    with pytest.raises(RecordError, match=r"summary\.json: cannot be read"):
        TrialFolder(tmp_path).summary()


BAD_VALUES = {
    "text for a number": (EpochRecord, {"lr": "high"}, "lr = 'high' should be of type float"),
    "a number for text": (TrialError, {"kind": 3}, "kind = 3 should be of type str"),
    "a float for an integer": (EpochRecord, {"epoch": 1.5}, "epoch = 1.5 should be of type int"),
    "a bool for an integer": (Session, {"threads": True}, "threads = True should be of type int"),
    "null": (TrialSummary, {"test_accuracy": None}, "test_accuracy = None should be of type float"),
    "NaN": (EpochRecord, {"val_loss": math.nan}, "val_loss = nan"),
    "infinity": (EpochRecord, {"train_seconds": math.inf}, "train_seconds = inf"),
    "an integer of 400 digits for a float": (EpochRecord, {"val_loss": 10**400}, "val_loss = 1000.* should lie"),
    "an integer beyond 64 bits": (TrialSummary, {"parameters": 2**63}, "parameters = 9223372036854775808"),
    "a negative accuracy": (EpochRecord, {"val_accuracy": -0.1}, "val_accuracy = -0.1 should lie between 0 and 1"),
    "an accuracy in percent": (TrialSummary, {"test_accuracy": 91.5}, "test_accuracy = 91.5 should lie"),
    "a date that no calendar has": (Invocation, {"started_at": 1e300}, r"started_at = 1e\+300 should lie"),
    "text for a date that may be missing": (Invocation, {"ended_at": "now"}, "ended_at = 'now' should be of type"),
    "a date before 1970 that may be missing": (Invocation, {"ended_at": -1.0}, "ended_at = -1.0 should lie"),
    "a number in a list of text": (Session, {"devices": ["a", 3]}, r"devices = \['a', 3\] should be of type list"),
    "text for a list": (Session, {"devices": "ab"}, "devices = 'ab' should be of type list"),
    "a table among versions": (SweepRecord, {"versions": {"torch": {}}}, "versions = .* should be of type dict"),
    "a list for the spec": (SweepRecord, {"spec": []}, r"spec = \[\] should be of type dict"),
}


@pytest.mark.parametrize(("record", "changes", "complaint"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_value_that_no_field_can_have_is_shown(record, changes, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        record.from_json(sample(record).to_json() | changes)


@by_type
def test_accuracies_are_shares_and_dates_are_of_this_age(record):
    for name, annotation in type(record).__annotations__.items():
        is_share, is_time = "accuracy" in name or "f1" in name, name == "at" or name.endswith("_at")
        expected = SHARE if is_share else UNIX_SECONDS if is_time else None
        assert next(iter(getattr(annotation, "__metadata__", ())), None) == expected, name


@pytest.mark.parametrize("numbers", [[2], [1, 1], [1, 3], [2, 1], [0, 1], [-1]])
def test_epochs_that_do_not_count_up_from_1_are_refused(numbers):
    epochs = [sample(EpochRecord).to_json() | {"epoch": number} for number in numbers]
    with pytest.raises(ValueError, match="should count 1, 2, 3"):
        History.from_json({"epochs": epochs})


@pytest.mark.parametrize("content", ["{}", '""', "3", "null", '{"a": 1}', "[[]]", '["x"]'])
def test_calls_that_are_no_list_of_calls_are_refused(tmp_path, content):
    (tmp_path / "invocations.json").write_text(content)
    with pytest.raises(RecordError, match=r"invocations\.json: not a list of calls"):
        SweepFolder(tmp_path).invocations()


@pytest.mark.parametrize(("text", "read"), [("🙂 ä", "🙂 ä"), ("a\udcffb", "a?b")])
def test_what_is_written_can_be_read_whatever_a_message_quotes(tmp_path, text, read):
    write_json(tmp_path / "a.json", [text])
    assert read_json(tmp_path / "a.json") == [read]


def test_half_a_character_is_refused_for_nobody_can_write_it(tmp_path):
    (tmp_path / "a.json").write_text('["\\uD800"]')
    with pytest.raises(RecordError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_characters_that_json_writes_as_a_pair_are_read(tmp_path):
    (tmp_path / "a.json").write_text('"\\ud83d\\ude42"')
    assert read_json(tmp_path / "a.json") == "🙂"


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
from raycifar.storage.files import write_json
os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
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
from raycifar.storage.files import write_json
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
    monkeypatch.setattr(os, "replace", lambda *_, **__: calls.append("replace"))
    write_json(tmp_path / "a.json", 1)
    assert calls == ["fsync", "replace"]


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path):
    for name in (".history.json.4711", ".best.safetensors.12", ".predictions.npz.3"):
        (tmp_path / name).touch()
    kept = {"history.json", ".validate_storage_marker", ".notes", "a.json.5", ".checkpoint_000001.5.partial"}
    for name in kept:
        (tmp_path / name).touch()
    sweep_leftovers(Beneath(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == kept
