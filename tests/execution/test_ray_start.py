"""What Ray needs before the first trial: it starts or says why not, a cluster is looked at, callbacks are guarded."""

import importlib.metadata
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from raycifar.execution.placement import PlacementError
from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from raycifar.training.trial import Assets
from tests.support.paths import ROOT
from tests.support.progress import Progress
from tests.support.sweep_folders import write_sweep
from tests.support.sweeps import sweep_of

pytestmark = pytest.mark.slow  # imports Ray


@pytest.mark.parametrize("nodes", [[], [{}], [{"GPU": 4.0}, {"memory": 1.0}]])
def test_a_cluster_without_cpus_is_refused(nodes):
    from raycifar.execution.ray_cluster import machine_of

    with pytest.raises(PlacementError, match="no CPU among them yet"):
        machine_of({}, nodes)


def test_a_cluster_with_cpus_is_counted():
    from raycifar.execution.ray_cluster import machine_of

    machine = machine_of({"CPU": 12.0, "GPU": 2.0, "memory": 1e9}, [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}])
    assert (machine.cpus, machine.node_cpus, machine.gpus, machine.gpu_cpus) == (12, 4, 2, 8)


def test_an_error_of_tunes_that_is_only_its_text_is_recorded(tmp_path):
    from raycifar.execution.ray_sweep import as_exception
    from raycifar.training.failures import trial_error

    assert trial_error(as_exception("Failed to download runtime_env file package")).message.startswith("Failed to")
    assert as_exception(error := ValueError("x")) is error


@pytest.mark.parametrize(
    "error", [RecordError("history.json: cannot be read (Stale file handle)"), OSError(116, "Stale")]
)
@pytest.mark.parametrize("hook", ["on_trial_start", "on_step_end", "on_trial_result", "on_trial_complete"])
def test_a_callback_never_ends_a_sweep(tmp_path, monkeypatch, error, hook):
    from raycifar.execution.ray_progress import TellBus

    folder = write_sweep(tmp_path / "q", {"a": (1, 3)})
    record = folder.trial("a").history().epochs[0]
    console = Console(file=io.StringIO(), width=200)
    show = TellBus(Progress(sweep_of(a={}).trials, console).bus, folder)
    trial = SimpleNamespace(config={"trial": {"name": "a"}})
    if hook != "on_trial_start":
        show.on_trial_start(0, [], trial)

    def fail(*_):
        raise error

    monkeypatch.setattr("raycifar.storage.folders.TrialFolder.history", fail)
    monkeypatch.setattr("raycifar.storage.folders.TrialFolder.summary", fail)
    news = {"on_step_end": [], "on_trial_result": [trial, record.to_json()]}.get(hook, [trial])
    for _ in range(2):
        getattr(show, hook)(0, [], *news)
    shown = console.file.getvalue()
    assert shown.count("the sweep goes on without telling everything") == 1, shown
    assert "Stale" in shown
    if hook == "on_trial_result":
        assert "epoch 1/" in shown, "the epoch itself is told all the same"


def test_a_callback_never_ends_a_search(tmp_path):
    from raycifar.search import ray_search

    lines = []
    bus = SimpleNamespace(complain=lines.append)
    show = ray_search.TellBusOfSamples(None, None, bus)
    for _ in range(2):
        show.on_trial_complete(0, [], SimpleNamespace(config={"sample": "s1", "settings": {}}))
    assert len(lines) == 1


def test_a_search_is_refused_where_the_dashboard_did_not_start():
    from raycifar.search.ray_search import check_dashboard

    notice = "Ray's dashboard did not start: its process ended; its log: /l; the sweep runs without it"
    session = SimpleNamespace(runner=SimpleNamespace(notice=notice))
    with pytest.raises(PlacementError, match="its log: /l; a search cannot run without it"):
        check_dashboard(session)


SEEN = {"storage": True, "version": "1", "missing": []}


@pytest.mark.parametrize(
    ("seen", "part"),
    [
        (SEEN, None),
        (SEEN | {"storage": False}, "does not see /shared/q: choose a --storage that all nodes share"),
        (SEEN | {"version": None}, "lacks the package raycifar: install it there"),
        (SEEN | {"version": "2"}, "has raycifar 2, this machine 1"),
        (SEEN | {"missing": ["/c/cifar10.safetensors"]}, "lacks /c/cifar10.safetensors"),
        ({"error": "no answer within 120 s"}, "could not be asked what it sees (no answer within 120 s)"),
    ],
)
def test_what_a_node_lacks_is_told_by_node_place_and_remedy(tmp_path, seen, part):
    from pathlib import Path

    from raycifar.execution.ray_nodes import faults

    lines = faults({"good (10.0.0.1)": SEEN, "b (10.0.0.2)": seen}, Path("/shared/q"), "1")
    assert [part in line and line.startswith("node b (10.0.0.2): ") for line in lines] == ([True] if part else [])


def test_a_node_looks_for_the_token_the_package_and_the_files(tmp_path, monkeypatch):
    from raycifar.execution import ray_look

    token, data = tmp_path / "token", tmp_path / "data"
    token.write_text("abc")
    data.write_bytes(b"12345")
    files = {str(data): 5, str(tmp_path / "none"): 1}
    found = ray_look.look(str(token), "abc", files, "raycifar")
    assert found["storage"]
    assert found["version"]
    assert found["missing"] == [str(tmp_path / "none")]
    clock = iter(range(0, 1000, 11))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    found = ray_look.look(str(token), "other", {str(data): 6}, "no_such_package")
    assert found == {"storage": False, "version": None, "missing": [str(data)]}


@pytest.fixture
def mute():
    """An address where connections are accepted and nothing ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_what_listens_and_never_answers_is_refused(mute, monkeypatch):
    from raycifar.execution import ray_address

    monkeypatch.setattr(ray_address, "GREETING_SECONDS", 0.5)
    with pytest.raises(PlacementError, match=r"no Ray cluster answers there \(no answer in time\): start it"):
        ray_address.check_cluster(mute, mute)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_for_an_answer_can_be_interrupted(mute, number, tmp_path):
    arguments = ["run_sweep.py", "sweeps/quick.toml", "--gpus=0", f"--storage={tmp_path}", f"--address={mute}"]
    code = (
        "from raycifar.execution import ray_address as a; import sys; a.GREETING_SECONDS = 60\n"
        "class Told(a.threading.Thread):\n"
        "    def join(self, seconds=None):\n        print('asking', flush=True)\n        super().join(seconds)\n"
        "a.threading.Thread = Told\nfrom raycifar.commands.run_sweep import main; sys.exit(main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as call:
        try:
            assert call.stdout.readline() == "asking\n"
            began = time.monotonic()
            call.send_signal(number)
            assert call.wait(30) == 130
            assert time.monotonic() - began < 10
        finally:
            call.kill()


NO_DASHBOARD = """
import os, sys
if any(a.endswith("dashboard/dashboard.py") for a in sys.orig_argv):
    os._exit(1)
"""
START = """
import os
from raycifar.execution import ray_cluster
from raycifar.execution.placement import PlacementError
try:
    with ray_cluster.cluster() as running:
        print(running.dashboard, "|", running.notice)
except PlacementError as error:
    print(error)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
states = [open(f"/proc/{child}/stat").read().rpartition(")")[2].split()[0] for child in children]
print("left:", [state for state in states if state != "Z"])
"""


def start(**environment):
    """What a process prints that starts Ray: its dashboard and the notice, or the refusal; the processes that stay."""
    command = [sys.executable, "-c", START]
    env = os.environ | environment
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    told, left = done.stdout.splitlines()
    return told, left


@pytest.mark.ray
def test_a_sweep_runs_without_a_dashboard_that_does_not_start_and_nothing_is_left(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_DASHBOARD)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    told, left = start(PYTHONPATH=path)
    assert told.startswith("None | Ray's dashboard did not start: its process ended; its log: ")
    assert left == "left: []"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("RAY_TMPDIR", "long", "name a folder with a short path in RAY_TMPDIR"),
        ("RAY_TMPDIR", "file", "name a folder that may be written in RAY_TMPDIR"),
        ("HOME", "file", "set HOME to a folder that may be written"),
    ],
)
def test_a_folder_that_ray_cannot_use_is_named_with_its_remedy(tmp_path, variable, value, part):
    (tmp_path / "file").touch()
    (long := tmp_path / ("x" * 90)).mkdir()
    told, left = start(**{variable: str(long if value == "long" else tmp_path / "file")})
    assert told.startswith("Ray did not start on this machine: ")
    assert part in told
    assert left == "left: []"


HANGS = """
import signal, threading, time
import psutil
from raycifar.execution import ray_cluster
ray_cluster.START_SECONDS = 20.0
def stop():
    while True:
        for child in psutil.Process().children():
            if child.name() == "raylet":
                return child.send_signal(signal.SIGSTOP)
        time.sleep(0.01)
threading.Thread(target=stop, daemon=True).start()
with ray_cluster.cluster():
    print("started")
"""


@pytest.mark.ray
def test_a_start_that_hangs_ends_in_one_line_and_leaves_nothing():
    """The raylet is stopped as soon as it is there."""
    command = [sys.executable, "-c", HANGS]
    with subprocess.Popen(command, cwd=ROOT, stdout=-1, stderr=-1, text=True, start_new_session=True) as call:
        printed, errors = call.communicate(timeout=120)
    assert (call.returncode, printed, errors.count("\n")) == (2, "", 1), errors
    assert "its node (raylet): TimeoutError: raylet has not answered within 20 s; its log: " in errors
    assert errors.endswith("or do without Ray: --local\n")
    until = time.monotonic() + 20
    while (left := in_group(call.pid)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="limits do not bind root; needs setpriv")
def test_a_limit_of_processes_that_ray_does_not_fit_in_is_told_before_its_start(tmp_path):
    """As another user, who may read this checkout; the limit counts the threads of all its processes."""
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", 65534, 65534)
    may_read = [f"--{kind}-caps=+dac_override,+dac_read_search" for kind in ("inh", "ambient")]
    as_another = ["setpriv", "--reuid=65534", "--clear-groups", *may_read, "prlimit", "--nproc=60"]
    env = os.environ | {"HOME": str(tmp_path / "home"), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [*as_another, sys.executable, "-c", START]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told, left = done.stdout.splitlines()
    assert re.match(r"Ray was not started on this machine: this user may start \d+ more .* takes some \d+; raise", told)
    assert left == "left: []"


def in_group(number):
    """The processes of this group that live: Ray's are in that of the process that started Ray."""
    return [p for p in psutil.process_iter(["pid", "status"]) if group(p.pid) == number and p.status() != "zombie"]


def group(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.ray
def test_a_joined_cluster_is_asked_before_the_first_trial(tmp_path, monkeypatch):
    """Here it is this machine alone: nothing is missing, then a file is of another size."""
    import ray

    from raycifar.execution import ray_nodes

    file = tmp_path / "data"
    file.write_bytes(b"123")
    session = SimpleNamespace(
        options=SimpleNamespace(address="auto"),
        plan=SimpleNamespace(gpus_per_worker=0.0),
        assets=Assets(file, None),
    )
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ray_nodes.check_nodes(session, SweepFolder(tmp_path).path)
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        monkeypatch.setattr(ray_nodes, "needed", lambda *_: {str(file): 9})
        with pytest.raises(PlacementError, match=r"^node .*: lacks .* copy it there"):
            ray_nodes.check_nodes(session, tmp_path)
    finally:
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0, reason="no namespaces here")
def test_nodes_that_lack_something_are_named_before_the_first_trial(tmp_path):
    """One does not see the storage folder and lacks the package, the other has another version of it.

    They are joined by --address auto and RAY_ADDRESS, with the token that is there.
    """
    storage, data, other, home = (tmp_path / name for name in ("storage", "data", "METADATA", "home"))
    (home / ".ray").mkdir(parents=True)
    (home / ".ray/auth_token").write_text("0123456789abcdef" * 2)
    storage.mkdir()
    data.write_bytes(b"123")
    other.write_text("Metadata-Version: 2.1\nName: raycifar\nVersion: 9.9\n")
    env = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.other_nodes", str(storage), str(other)]
    with subprocess.Popen(
        command, cwd=ROOT, env=env | {"RAY_AUTH_MODE": "token"}, stdin=-1, stdout=-1, text=True
    ) as nodes:
        address = nodes.stdout.readline().strip()
        code = "import sys; from tests.support.other_nodes import ask; ask(*sys.argv[1:])"
        call = [sys.executable, "-c", code, str(storage), str(data)]
        done = subprocess.run(
            call, cwd=ROOT, env=env | {"RAY_ADDRESS": address}, capture_output=True, text=True, timeout=300, check=False
        )
        nodes.communicate()
    lines = sorted(line.partition(": ")[2] for line in done.stdout.splitlines())
    assert [line.partition(":")[0] for line in lines] == [
        f"does not see {storage / 'new'}",
        f"has raycifar 9.9, this machine {importlib.metadata.version('raycifar')}",
        "lacks the package raycifar",
    ], done.stdout + done.stderr
    assert not list(storage.iterdir())


def test_an_error_that_is_its_own_cause_is_looked_at_once():
    """As Ray raises it where its dashboard does not start."""
    from raycifar.execution.ray_private.start import abandon

    error = ValueError("no dashboard")
    error.__cause__ = error
    assert abandon(error) is None
