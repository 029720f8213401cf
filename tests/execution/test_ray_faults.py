"""From what Ray raised, in the words of Ray 2.60 as they were seen, to one line with the cause and the remedy."""

import contextlib
import socket
import threading
import time

import pytest

from raycifar.execution import ray_address
from raycifar.execution.placement import PlacementError
from raycifar.execution.ray_address import check_address, check_answering, check_cluster, check_environment, judged
from raycifar.execution.ray_faults import (
    limited,
    no_dashboard,
    no_joining,
    no_room,
    no_room_for_dashboard,
    no_start,
    of_dashboard,
)

LONG = "/tmp/" + 90 * "x"
DASHBOARD = Exception(
    "Failed to read dashboard.err file: [Errno 2] No such file or directory: '/r/logs/dashboard.err'. "
    "It is unexpected. Please report an issue to Ray github."
)
NODE = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup or the "
    "GCS has become overloaded."
)
STARTS = {
    "path": (
        OSError(f"validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: {LONG}/plasma_store"),
        ["sockets is too long", f"({LONG}/plasma_store)", "short path in RAY_TMPDIR"],
    ),
    "home": (NotADirectoryError(20, "Not a directory", "/home/me/.ray"), ["(/home/me/.ray)", "set HOME"]),
    "home read-only": (OSError(30, "Read-only file system", "/home/me/.ray"), ["set HOME", "RAY_AUTH_TOKEN_PATH"]),
    "token": (
        RuntimeError("RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /none"),
        ["its token cannot be read", "(/none)", "RAY_AUTH_TOKEN_PATH to a file that holds a token"],
    ),
    "folder": (PermissionError(13, "Permission denied", "/t/ray"), ["(/t/ray)", "may be written in RAY_TMPDIR"]),
    "disk": (OSError(28, "No space left on device", "/t/ray"), ["the disk is full", "make room"]),
    "processes": (BlockingIOError(11, "Resource temporarily unavailable"), ["no more processes", "`ulimit -u`"]),
    "threads": (RuntimeError("can't start new thread"), ["no more processes or threads", "`ulimit -u`"]),
    "no folder": (FileNotFoundError(2, "No such file or directory", "/proc/ray"), ["its folder cannot", "RAY_TMPDIR"]),
    "files": (OSError(24, "Too many open files"), ["`ulimit -n`"]),
    "shm": (ValueError("The object store size exceeds that of /dev/shm"), ["enlarge /dev/shm", "--shm-size"]),
    "port": (OSError(98, "Address already in use"), ["no free port", "`ss -ltnp` lists them"]),
    "packages": (
        Exception("Cannot include dashboard with missing packages."),
        ["its dashboard: a package of Ray's is missing", "install `ray[default,train,tune]`"],
    ),
    "node": (NODE, ["its node (raylet)", "timed out during startup", "less busy machine"]),
    "gcs": (
        RuntimeError("Timed out waiting for file /r/gcs_server_port_456c"),
        ["its control service (GCS)", "less busy machine"],
    ),
    "unknown": (Exception("what nobody has\nseen before"), ["Exception: what nobody has seen before", "--local"]),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_that_failed_is_told_in_one_line_with_its_remedy(name):
    error, parts = STARTS[name]
    line = no_start(error)
    assert line.startswith("Ray did not start on this machine: ")
    assert line.endswith("--local")
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_too_few_threads_are_told_with_how_many_it_takes():
    line = no_room(97, 230)
    assert "this user may start 97 more processes or threads, and a sweep takes some 230; " in line
    assert line.endswith("--local")
    line = no_room_for_dashboard(300, 460)
    assert "dashboard was not started: this user may start 300 more" in line
    assert "`ulimit -u`" in line
    assert line.endswith("; the sweep runs without it")


def test_the_logs_name_the_limit_that_rays_error_does_not(tmp_path):
    (tmp_path / "raylet.err").write_text("what(): thread: Resource temporarily unavailable [system:11]\n")
    (tmp_path / "raylet.out").write_text("object_store_memory 1, sockets in /dev/shm, no token in /home/user/.ray\n")
    line = no_start(NODE, tmp_path)
    assert "its node (raylet): this user may start no more processes" in line
    assert f"its log: {tmp_path / 'raylet.out'}" in line
    assert "`ulimit -u`" in line
    assert limited(DASHBOARD, tmp_path), "without a dashboard it would fail, too"


def test_shared_memory_that_cannot_be_written_is_told_from_the_log(tmp_path):
    (tmp_path / "raylet.out").write_text("dlmalloc.cc:161: create_buffer failed to open file /dev/shm/plasmaX, error R")
    assert "its object store cannot be made in shared memory; " in (line := no_start(NODE, tmp_path))
    assert "make /dev/shm writable" in line


def test_words_of_healthy_logs_are_no_cause(tmp_path):
    (tmp_path / "raylet.out").write_text("object_store_memory 1, sockets in /dev/shm, no token in /home/user/.ray\n")
    assert "less busy machine" in no_start(NODE, tmp_path)
    assert not limited(DASHBOARD, tmp_path)


def test_a_dashboard_that_failed_alone_is_told_of_in_one_line(tmp_path):
    assert of_dashboard(DASHBOARD)
    assert not of_dashboard(NODE)
    (tmp_path / "dashboard.log").write_text("")
    line = no_dashboard(DASHBOARD, tmp_path)
    assert line == (
        f"Ray's dashboard did not start: its process ended; its log: {tmp_path / 'dashboard.log'}; "
        "the sweep runs without it"
    )


JOINS = {
    "versions": (RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.1"), "the cluster's versions"),
    "token": (RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing"), "RAY_AUTH_MODE=token"),
    "unknown": (ConnectionError("Failed to connect to Ray cluster at 1.2.3.4:6379"), "`ray status`"),
}


@pytest.mark.parametrize("name", JOINS)
def test_a_cluster_that_could_not_be_joined_is_told_of_by_its_address(name):
    error, remedy = JOINS[name]
    line = no_joining(error, "1.2.3.4:6379")
    assert line.startswith("--address 1.2.3.4:6379: ")
    assert remedy in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("ray://10.0.0.1:10001", "ray job submit -- COMMAND --address auto"),
        ("http://10.0.0.1:8265", "without http://"),
        ("local", "without --address a Ray starts on this machine"),
        ("nonsense", "expected HOST:PORT, such as 10.0.0.1:6379, or auto"),
        ("10.0.0.1:80", "a port from 1024 to 65535"),
        ("10.0.0.1:99999", "a port from 1024 to 65535"),
        ("host:port", "expected HOST:PORT"),
        ("two words:6379", "expected HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused_with_what_one_looks_like(address, part):
    with pytest.raises(PlacementError, match=r"^--address ") as refused:
        check_address(address)
    assert address in str(refused.value)
    assert part in str(refused.value)


def test_addresses_of_clusters_are_taken():
    assert check_address("auto") is None
    assert check_address("10.0.0.1:6379") == ("10.0.0.1", 6379)
    assert check_address("head.cluster.local:6379") == ("head.cluster.local", 6379)
    assert check_address("[fe80::1]:6379") == ("fe80::1", 6379)


SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SERVERS = {  # what a server sends to whoever connects, byte by byte every so many seconds, and what is said of it
    "gRPC": (SETTINGS, 0, None),
    "nothing": (b"", 9, r"no Ray cluster answers there \(no answer in time\): start it"),
    "nothing in time": (SETTINGS, 0.3, "no answer in time"),
    "an end": (b"", 0, "what listens there does not answer as a Ray cluster: start it"),
    "a web server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", 0, "does not answer as a Ray cluster"),
    "a mail server": (b"220 mail.example.org ESMTP\r\n", 0, "does not answer as a Ray cluster"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_whoever_does_not_answer_as_ray_does_is_refused_in_time(name, monkeypatch):
    content, seconds, line = SERVERS[name]
    monkeypatch.setattr(ray_address, "GREETING_SECONDS", 1.0)
    over = threading.Event()

    def serve(server):
        end = server.accept()[0]
        end.recv(100)
        for byte in content or b" ":
            over.wait(seconds)
            with contextlib.suppress(OSError):
                end.sendall(bytes([byte]) if content else b"")
        end.close()

    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(PlacementError, match=line) if line else contextlib.nullcontext():
            check_answering(address)
        over.set()
        thread.join()
    assert time.monotonic() - began < 5


def test_a_name_whose_look_up_hangs_is_refused_in_time(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_: over.wait(30) and []
    )  # stands for a resolver that does not answer
    monkeypatch.setattr(ray_address, "GREETING_SECONDS", 0.2)
    with pytest.raises(PlacementError, match=r"^--address head.cluster:6379: .*no answer in time"):
        check_answering("head.cluster:6379")
    over.set()  # the thread ends, with nothing found


def test_a_cluster_that_speaks_tls_is_left_to_ray(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        check_answering(f"127.0.0.1:{mute.getsockname()[1]}")


def test_nobody_at_the_address_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(PlacementError, match="no Ray cluster answers there") as refused:
        check_cluster(address, address)
    assert str(refused.value).startswith(f"--address {address}: ")
    with pytest.raises(PlacementError) as refused:
        check_cluster(address, "auto")
    assert str(refused.value).startswith(f"--address auto ({address}): ")


ANSWERS = {
    "a node": ({"nodes": [{"address": "10.0.0.1", "here": False}, {"address": "10.0.0.2", "here": True}]}, None),
    "not one": ({"nodes": [{"address": "10.0.0.1", "here": False}]}, "this machine is no node of the cluster"),
    "no nodes": ({"nodes": []}, "no living node"),
    "silent": ({"silent": True}, "does not answer as a Ray cluster"),
    "crashed": ({"crashed": -6}, "run the command on a node"),
    "token": ({"error": "RPC error: InvalidAuthToken: Authentication token is missing"}, "RAY_AUTH_MODE=token"),
    "another server": ({"error": "RpcError: Received http2 header with status: 404"}, "did not tell the nodes"),
    "another version": ({"error": "what nobody has seen before"}, "install the cluster's versions of Ray and Python"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_cluster_says_of_its_nodes_is_judged(name):
    answer, part = ANSWERS[name]
    found = judged(answer)
    assert found is None if part is None else part in found


def test_ray_address_is_neither_used_nor_ignored_in_silence():
    line = check_environment(None, {"RAY_ADDRESS": "10.0.0.1:6379"})
    assert line == (
        "RAY_ADDRESS=10.0.0.1:6379 is not used: a Ray of its own starts on this machine (--address auto joins that one)"
    )
    assert check_environment("auto", {"RAY_ADDRESS": "10.0.0.1:6379"}) is None
    assert check_environment(None, {}) is None


def test_a_job_of_rays_starts_no_second_ray():
    job = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    with pytest.raises(PlacementError, match="add --address auto"):
        check_environment(None, job)
    assert check_environment("auto", job) is None
