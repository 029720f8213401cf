"""The budget's arithmetic with a fake clock, its processes with real ones, and its lists."""

import json
import subprocess
import sys
import tarfile
import time
from itertools import pairwise

import psutil
import pytest

from benchmarks import checks, input, overhead, peers, recipes, steps, whole
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import processes
from benchmarks.gpu.parts import DEVICES, FOLDER, MARKS, Part, listed
from benchmarks.gpu.record import DONE, FAILED, OUT_OF_TIME, Outcome, Record, opened, result_in
from benchmarks.gpu.schedule import RESERVE, work
from raycifar.config.sweep_file import load_sweep
from raycifar.errors import InputError
from raycifar.storage.files import RecordError
from tests.support.paths import ROOT
from tests.support.sweep_folders import write_sweep

PARTS = [Part(name, "?", seconds, ()) for name, seconds in (("a", 60), ("b", 200), ("c", 30), ("d", 50))]
RESULT = {"tables": [{"title": "T"}]}


class Machine:
    """Fake clock and fake measurements: a part takes its estimate, or what `takes` says, and never past its limit."""

    def __init__(self, takes=None):
        self.now, self.takes, self.begun = 1000.0, takes or {}, []

    def clock(self):
        return self.now

    def measure(self, part, limit):
        self.begun.append(part.name)
        needed = self.takes.get(part.name, part.seconds)
        self.now += min(needed, limit)
        return Outcome(DONE, needed, result=RESULT) if needed <= limit else Outcome(OUT_OF_TIME, limit, said="cut")


def call(record, budget, machine):
    began = machine.now
    work(PARTS, record, budget, machine.clock, machine.measure)
    assert machine.now - began <= budget - RESERVE
    return machine.begun


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / "gpu.json", "a GPU", "cuda")


def states(record):
    return {name: outcome["state"] for name, outcome in json.loads(record.path.read_text())["parts"].items()}


def test_what_fits_is_measured_in_order_of_worth_and_the_rest_by_later_calls(record):
    assert call(record, 110 + RESERVE, Machine()) == ["a", "c"]  # b needs 200 of the 50 left, d 50 of 20
    assert call(record, 210 + RESERVE, Machine()) == ["b"]
    assert call(opened(record.path, "a GPU", "cuda"), 60 + RESERVE, Machine()) == ["d"]
    assert call(record, 900, Machine()) == ["d"]  # by what this call knew
    assert call(opened(record.path, "a GPU", "cuda"), 900, Machine()) == []


@pytest.mark.parametrize("slow", [part.name for part in PARTS])
def test_a_budget_that_runs_out_within_a_part_leaves_no_result_of_it_and_the_next_call_goes_on_there(record, slow):
    call(record, 340 + RESERVE, Machine({slow: 10_000}))
    before = [part.name for part in PARTS[: [part.name for part in PARTS].index(slow)]]
    assert states(record) == dict.fromkeys(before, DONE) | {slow: OUT_OF_TIME}
    assert record.parts[slow].result is None
    resumed = opened(record.path, "a GPU", "cuda")
    rest = call(resumed, 900, Machine())
    assert rest == [part.name for part in PARTS if part.name not in (*before, slow)] + [slow]
    assert all(outcome.state == DONE and outcome.result == RESULT for outcome in resumed.parts.values())
    assert resumed.parts[slow].tries == 2


def test_a_record_is_written_after_every_part(record):
    class Power(Exception):  # noqa: N818
        pass

    def fails_in_c(part, limit):
        if part.name == "c":
            raise Power
        return Outcome(DONE, 1.0, result=RESULT)

    with pytest.raises(Power):
        work(PARTS, record, 900, time.monotonic, fails_in_c)
    assert states(record) == {"a": DONE, "b": DONE}


def test_the_record_of_another_machine_is_not_continued(record):
    record.add("a", Outcome(DONE, 1.0, result=RESULT))
    with pytest.raises(InputError, match="measured on a GPU, and this is another: name another --folder"):
        opened(record.path, "another", "cuda")


@pytest.mark.parametrize("text", ["", "[]", '{"parts": {"a": {}}}', '{"parts": {"a": {"mood": "good"}}}'])
def test_a_record_that_is_none_is_named(record, text):
    record.path.write_text(text)
    with pytest.raises(RecordError, match=r"gpu\.json"):
        opened(record.path, "a GPU", "cuda")


@pytest.mark.parametrize("text", ["", '{"tables": [', "[]", "{}", '{"tables": []}'])
def test_half_a_result_is_none(tmp_path, text):
    path = tmp_path / "result.json"
    assert result_in(path) is None
    path.write_text(text)
    assert result_in(path) is None


# Processes -----------------------------------------------------------------------------------------------------------

# An orphan that hears no SIGTERM, in a session of its own: the process between it and the part has ended.
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
ORPHAN = f"import os, signal, time; {DEAF}; print('orphan', os.getpid(), flush=True); time.sleep(600)"
BETWEEN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-SIc', {ORPHAN!r}], start_new_session=True)"
LEAVES_AN_ORPHAN = f"import subprocess, sys, time; subprocess.run([sys.executable, '-SIc', {BETWEEN!r}])"
PYTHON = [sys.executable, "-SIc"]  # starts quickly
LIMITS = (0.5, 4, 32)  # seconds for a part that never ends: the first within which it has begun, on a busy machine too


def lives(log):
    """Whether the orphan that told the log its number is still there."""
    word, number = log.read_text().split()[:2]
    assert word == "orphan"
    return psutil.pid_exists(int(number)) and psutil.Process(int(number)).status() != "zombie"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to another process")
def test_a_part_past_its_limit_is_ended_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    waits, log = f"{LEAVES_AN_ORPHAN}; time.sleep(600)", tmp_path / "log"
    for limit in LIMITS:
        assert processes.run([*PYTHON, waits], {}, limit, log) is None
        if log.read_text():
            break
    assert not lives(log)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to another process")
def test_a_part_that_ends_by_itself_leaves_nobody_behind_and_other_children_live(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE", 0.5)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ends = f"{LEAVES_AN_ORPHAN}\nimport os\nwhile not os.fstat(1).st_size: time.sleep(0.01)\nsys.exit(3)"
    assert processes.run([*PYTHON, ends], {}, 60, tmp_path / "log") == 3
    assert not lives(tmp_path / "log")
    assert other.poll() is None
    other.kill()
    other.wait()


def part(code):
    """A part whose command is this Python code, by way of a module that runs what it is given."""
    return Part("p", "?", 1, ("gpu_stand_in", code))


@pytest.fixture
def stand_in(monkeypatch):
    """A benchmark that is not there: the module's name becomes `python -c` with the part's code."""

    def run(command, settings, limit, log):
        written, code = command[4], command[5]
        return real([*PYTHON, code, written], settings, limit, log)

    real = processes.run
    monkeypatch.setattr(processes, "run", run)


WRITES = "import sys; open(sys.argv[1], 'w').write('{\"tables\": [1]}')"
LATE = "print('so far', flush=True); import time; time.sleep(60)"
ENDS = {
    "well": (WRITES, DONE, ""),
    "well, and wrote nothing": ("print('nothing')", FAILED, "nothing"),
    "badly, after it wrote": (f"{WRITES}; sys.exit('it broke')", FAILED, "exit status 1\nit broke"),
    "too late, after it wrote": (f"{WRITES}; {LATE}", OUT_OF_TIME, "so far"),
}


@pytest.mark.parametrize(("code", "state", "said"), ENDS.values(), ids=ENDS)
def test_only_a_part_that_ended_well_has_a_result(tmp_path, stand_in, code, state, said):
    for limit in LIMITS if state == OUT_OF_TIME else (30,):
        outcome = gpu.measure(tmp_path, "cpu", part(code), limit)
        if outcome.said:
            break
    assert (outcome.state, outcome.result) == (state, {"tables": [1]} if state == DONE else None)
    assert said in outcome.said


def test_a_cpu_in_a_gpus_place_sees_no_gpu(tmp_path, stand_in):
    code = "import os, sys; sys.exit('devices ' + repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    assert "devices ''" in gpu.measure(tmp_path, "cpu", part(code), 30).said


# The command ---------------------------------------------------------------------------------------------------------


def test_without_a_gpu_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "HARDWARE", "print('2 cores of a CPU', False, sep='\\n')")
    assert gpu.main(["--folder", str(tmp_path)]) == 2
    assert "no GPU here: --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--budget", "0"], ["--budget", "ten"], ["--device", "tpu"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        gpu.main(arguments)
    assert refused.value.code == 2
    assert capsys.readouterr().err.count("\n") <= 3


def test_the_list_shows_what_is_within_600_and_840_seconds(capsys):
    assert gpu.main(["--list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {one.name} |" in shown for one in DEVICES["cuda"])
    ends = [end for _, _, _, end, _ in listed(DEVICES["cuda"])]
    for mark in MARKS:
        assert (
            sum(f"{mark} s" in marks for *_, marks in listed(DEVICES["cuda"])) == sum(end <= mark for end in ends) > 0
        )


def test_both_devices_have_the_same_parts_and_every_cpus_part_fits_into_120_seconds():
    assert [one.name for one in DEVICES["cpu"]] == [one.name for one in DEVICES["cuda"]]
    assert all(one.seconds + RESERVE < 120 for one in DEVICES["cpu"])


COMMANDS = {"checks": checks, "recipes": recipes, "whole": whole, "steps": steps, "overhead": overhead, "input": input}


class Parsed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("one", [*DEVICES["cuda"], *DEVICES["cpu"]], ids=lambda one: one.name)
def test_every_parts_command_parses_and_its_sweep_is_sound(one, monkeypatch, tmp_path):
    def parsed():
        raise Parsed

    module, *options = (word.replace(FOLDER, str(tmp_path)) for word in one.command)
    monkeypatch.setattr(COMMANDS[module], "surroundings", parsed)  # the first thing behind the parser
    monkeypatch.setattr(peers, "missing", lambda names: [])  # Lightning is on the GPU machine
    with pytest.raises(Parsed):
        COMMANDS[module].main(["--json", str(tmp_path / "result.json"), *options])
    if module == "whole":
        sweep, *rest = options[options.index("--") + 1 :]
        settings = [value for option, value in pairwise(rest) if option == "--set"]
        assert load_sweep(ROOT / sweep, settings).trials


def test_a_whole_sweep_has_a_wall_clock_only_where_one_call_ran_it(tmp_path):
    folder = write_sweep(tmp_path / "tiny", {"transfer": (1, 2), "scratch": (1, 3)})
    table = whole.tried(folder, 33.0, "")
    assert [row[0] for row in table.rows] == ["the whole command", "transfer", "scratch"]
    assert table.rows[0][1] == 33.0
    folder.write_invocations(folder.invocations() * 2)
    assert whole.tried(folder, 33.0, "").rows[0][1] == "resumed: not timed"


def test_the_packed_sweep_has_its_records_and_no_weights(tmp_path):
    folder = write_sweep(tmp_path / "tiny", {"transfer": (1, 2)})
    (folder.path / "transfer" / "checkpoint_000001").mkdir()
    (folder.path / "transfer" / "checkpoint_000001" / "history.json").write_text("{}")
    (folder.path / "transfer" / "best.safetensors").write_text("weights")
    whole.pack(folder.path, tmp_path / "tiny.tar.gz")
    with tarfile.open(tmp_path / "tiny.tar.gz") as archive:
        names = set(archive.getnames())
    assert {"tiny/sweep.json", "tiny/invocations.json", "tiny/transfer/history.json"} <= names
    assert not [name for name in names if "checkpoint" in name or name.endswith("safetensors")]


def test_the_checks_count_what_passed_and_what_was_skipped(tmp_path):
    cases = '<testcase classname="a" time="1"/><testcase classname="a" time="2"><skipped/></testcase>'
    (tmp_path / "report.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert checks.results(tmp_path / "report.xml").rows == [("a", 1, 1, 3.0)]
