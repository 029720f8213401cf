"""What a script reads from `run_sweep.py --json`."""

import io
import json
import os
import shutil
import signal
import time

import pytest

from raycifar.commands import run_sweep
from raycifar.storage.records import EpochRecord
from raycifar.tracking.json_lines import JsonLines
from tests.support.paths import ROOT
from tests.support.sweep_folders import write_sweep

QUICK = str(ROOT / "sweeps/quick.toml")
RECORD = EpochRecord(**dict.fromkeys(EpochRecord.__annotations__, 1))


def test_an_event_is_one_line_with_the_records_own_names():
    stream, before = io.StringIO(), time.time()
    JsonLines(stream).epoch("a", RECORD)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event.pop("event"), event.pop("trial")) == ("epoch", "a")
    assert before <= event.pop("at") <= time.time()
    assert EpochRecord.from_json(event) == RECORD
    assert set(event) == set(EpochRecord.__annotations__)


def test_a_change_of_state_says_why():
    stream = io.StringIO()
    JsonLines(stream).state("a", "failed", "its process was killed")
    event = json.loads(stream.getvalue())
    del event["at"]
    assert event == {"event": "state", "trial": "a", "state": "failed", "note": "its process was killed"}


def test_a_reader_that_has_gone_ends_no_sweep():
    ours, theirs = os.pipe()
    os.close(ours)
    stream = os.fdopen(theirs, "w")
    events = JsonLines(stream)
    events.end(0)
    events.end(0)
    stream.close()  # as Python does at its end


def test_a_full_disk_behind_standard_output_ends_no_sweep():
    stream = open("/dev/full", "w")  # noqa: SIM115 - closed below
    events = JsonLines(stream)
    events.end(0)
    events.end(0)
    stream.close()


@pytest.fixture
def command(capsys):
    def call(*arguments):
        before = signal.getsignal(signal.SIGTERM)
        status = run_sweep.main([*arguments, "--json"])
        signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return status, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return call


def test_a_dry_run_tells_the_plan_and_nothing_else_on_standard_output(command, tmp_path):
    status, (plan, end), errors = command(QUICK, "--dry-run", "--gpus=4", f"--storage={tmp_path}")
    assert status == 0
    assert "4 trials, 4 at once, on 4 GPUs" in errors
    assert plan.pop("at") <= end.pop("at")
    assert end == {"event": "end", "exit_status": 0}
    assert plan == {
        "event": "plan",
        "name": "quick",
        "folder": str(tmp_path / "quick"),
        "runner": "ray",
        "gpus": 4,
        "trials_at_once": 4,
        "trials": ["scratch", "transfer-1", "transfer-2", "transfer-3"],
    }


def test_a_dry_run_plans_what_is_left(command, tmp_path):
    shutil.copytree(ROOT / "results/quick-2-epyc-cores", tmp_path / "quick")
    status, (plan, _), errors = command(QUICK, "--dry-run", "--gpus=4", f"--storage={tmp_path}")
    assert (status, plan["trials"]) == (0, [])
    assert "Nothing to do: all 4 trials have finished." in errors
    (tmp_path / "quick/transfer-3/summary.json").unlink()
    assert command(QUICK, "--dry-run", "--gpus=4", f"--storage={tmp_path}")[1][0]["trials"] == ["transfer-3"]
    fresh = command(QUICK, "--dry-run", "--gpus=4", "--fresh", f"--storage={tmp_path}")[1][0]["trials"]
    assert len(fresh) == 4


def test_bad_input_ends_with_its_exit_status_as_an_event(command, tmp_path):
    status, (event,), errors = command("nowhere.toml", f"--storage={tmp_path}")
    assert status == event["exit_status"] == 2
    assert errors.count("\n") == 1


def test_a_finished_sweep_tells_its_results(command, tmp_path):
    arms = {"a": (2, 3)}
    folder = write_sweep(tmp_path / "q", arms)
    (tmp_path / "q.toml").write_text(
        '[[trials]]\nname = "a"\nrepeats = 2\nepochs = 3\nmodel = { weights = "random" }\n'
    )
    status, (*summaries, end), _ = command(str(tmp_path / "q.toml"), f"--storage={tmp_path}")
    assert status == end["exit_status"] == 0
    assert [event["trial"] for event in summaries] == ["a-1", "a-2"]
    assert summaries[0]["test_accuracy"] == folder.trial("a-1").summary().test_accuracy
