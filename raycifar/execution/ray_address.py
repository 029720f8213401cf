"""The address of a Ray cluster, asked before Ray connects: Ray itself would wait for minutes, or end the process.

The first bytes of HTTP/2 show whether a gRPC server answers there, as Ray's control service is one, within a time that
no load of this machine makes longer: nothing is imported for it. Then a child process asks for the cluster's nodes, and
whether one of them is this machine. What crashes or hangs there costs nothing.
"""

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raycifar.execution.placement import PlacementError
from raycifar.execution.ray_faults import unauthenticated

GREETING_SECONDS = 6.0  # for a name to be looked up, a connection, and the first bytes from there
ANSWER_SECONDS = 10.0  # for the cluster to name its nodes
IMPORT_SECONDS = 120.0  # for the child to import Ray, on a busy machine
LOOKS_LIKE = "expected HOST:PORT, such as 10.0.0.1:6379, or auto"
_REMEDY = "start it (ray start --head), name another --address, or leave it out to start Ray on this machine"
_NO_CLUSTER = f"what listens there does not answer as a Ray cluster: {_REMEDY}"
_NO_NODES = "what answers there did not tell the nodes of a Ray cluster"
_VERSIONS = "install the cluster's versions of Ray and Python here"
ON_A_NODE = "run the command on a node of the cluster, or submit it: ray job submit -- COMMAND --address auto"
# HTTP/2's preface and an empty frame of settings, type 4; a server sends such a frame first (RFC 9113, 3.4 and 6.5).
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4
_CHILD = "import sys; from raycifar.execution.ray_private.start import tell_nodes; tell_nodes(*sys.argv[1:])"
_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]@]+)):(?P<port>\d{1,5})")


def check_address(address: str) -> tuple[str, int] | None:
    """Host and port of what --address names; None for auto. Raises PlacementError for what is no such address."""
    scheme, found, _ = address.partition("://")
    if found and scheme == "ray":
        raise PlacementError(f"--address {address}: a sweep cannot run over Ray Client (ray://): {ON_A_NODE}")
    if found:
        raise PlacementError(f"--address {address}: {LOOKS_LIKE} (a cluster's own address, without {scheme}://)")
    if address == "auto":
        return None
    if address == "local":
        raise PlacementError(f"--address local: {LOOKS_LIKE}; without --address a Ray starts on this machine")
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or not 1024 <= int(match["port"]) <= 65535:
        raise PlacementError(f"--address {address}: {LOOKS_LIKE} (a port from 1024 to 65535)")
    return match["v6"] or match["host"], int(match["port"])


def check_environment(address: str | None, environment: Mapping[str, str]) -> str | None:
    """A line about RAY_ADDRESS where it is set and no --address is given; a job of Ray's is refused then."""
    there = environment.get("RAY_ADDRESS")
    if address or not there or there == "local":
        return None
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in environment:
        raise PlacementError(
            f"this is a job on the Ray cluster at {there}, on which a second Ray would start: add --address auto"
        )
    return f"RAY_ADDRESS={there} is not used: a Ray of its own starts on this machine (--address auto joins that one)"


def check_answering(address: str) -> None:
    """Raises PlacementError for what is no address, and where no gRPC server answers at HOST:PORT. Needs no Ray."""
    if host_and_port := check_address(address):
        _greet(host_and_port, f"--address {address}")


def check_cluster(address: str, named: str) -> None:
    """Raises PlacementError unless a cluster answers at `address` (HOST:PORT) of which this machine is a node.

    `named` is what the user typed. Ctrl-C and SIGTERM are heeded at once.
    """
    host_and_port = check_address(address)
    where = f"--address {named}" if named == address else f"--address {named} ({address})"
    if host_and_port:
        _greet(host_and_port, where)
    if problem := judged(ask(address)):
        raise PlacementError(f"{where}: {problem}")


def _greet(host_and_port: tuple[str, int], where: str) -> None:
    """A thread does it, for nothing limits the time that the look-up of a name takes."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(_refusal(host_and_port)), daemon=True)
    thread.start()
    thread.join(GREETING_SECONDS)
    if problem := found[0] if found else _silent("no answer in time"):
        raise PlacementError(f"{where}: {problem}")


def _refusal(host_and_port: tuple[str, int]) -> str | None:
    """Why nobody there can be a Ray cluster; None where a gRPC server answers."""
    try:
        with socket.create_connection(host_and_port, GREETING_SECONDS) as end:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return None  # it answers to encrypted words alone
            end.sendall(_GREETING)
            with end.makefile("rb") as answer:
                frame = answer.read(9)
    except TimeoutError:
        return _silent("no answer in time")
    except OSError as error:
        return _silent(error.strerror or str(error))
    return None if frame[3:4] == bytes([_SETTINGS]) else _NO_CLUSTER


def _silent(reason: str) -> str:
    return f"no Ray cluster answers there ({reason}): {_REMEDY}"


def ask(address: str) -> dict[str, Any]:
    """What a child process found out: `nodes`, each with `here`; or `error`, or `silent`, or `crashed`."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-c", _CHILD, address]
    child = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is this process's; it then ends the child
    )
    try:
        return _answer(child)
    finally:
        child.kill()
        child.wait()
        with contextlib.suppress(AttributeError):
            child.stdout.close()  # type: ignore[union-attr]


def _answer(child: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """The child says that it has imported Ray, and then what it has found."""
    line: bytes | None = b""
    for seconds in (IMPORT_SECONDS, ANSWER_SECONDS):
        line = _line(child, seconds)
        if not line:
            return {"silent": True} if line is None else {"crashed": child.wait(5)}
    answer: dict[str, Any] = json.loads(line or b"")
    return answer


def _line(child: "subprocess.Popen[bytes]", seconds: float) -> bytes | None:
    """The child's next line, empty at its end; None where none comes in time."""
    assert child.stdout is not None  # noqa: S101 - it is a pipe
    line, until = b"", time.monotonic() + seconds
    while not line.endswith(b"\n"):
        if not select.select([child.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            return None
        if not (more := os.read(child.stdout.fileno(), 1)):
            return b""
        line += more
    return line


def judged(answer: dict[str, Any]) -> str | None:
    """What is wrong with the cluster of which the child told, with the remedy; None if nothing."""
    if "silent" in answer:
        return _NO_CLUSTER
    if "crashed" in answer:
        return f"asking the cluster for its nodes ended a process (status {answer['crashed']}): {ON_A_NODE}"
    if "error" in answer:  # Ray itself would try for minutes
        return unauthenticated(answer["error"]) or f"{_NO_NODES} ({answer['error'][:200]}): {_VERSIONS}, or {_REMEDY}"
    if not answer["nodes"]:
        return f"the cluster has no living node: {_REMEDY}"
    if not any(node["here"] for node in answer["nodes"]):
        hosts = ", ".join(sorted({node["address"] for node in answer["nodes"]})[:5])
        return f"this machine is no node of the cluster (its nodes: {hosts}): {ON_A_NODE}"
    return None
