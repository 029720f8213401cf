"""Private names of Ray around its start: its interfaces, its token, its nodes, the end of a start that fails."""

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import (
    _get_default_token_path,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.node import Node
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled

from raycifar.execution.ray_faults import text_of
from raycifar.execution.ray_private.ways import OWN_RAY, RAYS_OWN_WAY, replaced

MONITORS = ("start_monitor", "start_log_monitor")  # methods of Node


def choose_interfaces(address: str | None) -> None:
    """A Ray of our own listens on loopback alone: it does so where it is told that it has one node, as on Windows.

    ray.init replaces a loopback address that it is given; this process has read the variable already.
    """
    ray_constants.ENABLE_RAY_CLUSTER = bool(address)
    forget_own_ray()
    if not address:
        os.environ[OWN_RAY] = "1"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = str(int(bool(address)))


def forget_own_ray() -> None:
    """As Ray is left: the next one may be another's."""
    os.environ.pop(OWN_RAY, None)


def hide_token() -> None:
    """Let this user alone read the token of Rays of its own, which Ray before 2.60.1 writes as readable as any file.

    Where there is none yet, an empty file waits for it: Ray takes it for none, and writes into it.
    """
    with contextlib.suppress(OSError, RuntimeError):  # no home, or another's
        path = _get_default_token_path()
        path.parent.mkdir(exist_ok=True)
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(file).st_mode & 0o077:
                os.fchmod(file, 0o600)
        finally:
            os.close(file)


def cluster_address(address: str) -> str | None:
    """HOST:PORT of what `ray.init(address)` would join, "auto" and RAY_ADDRESS resolved. Raises ConnectionError.

    For "auto", this process and those that it starts use the token that is there; ray.init does so only where it finds
    a cluster without RAY_ADDRESS.
    """
    if address != "auto":
        return address
    found = services.get_ray_address_from_environment(address, None)
    with _without_lines("ray._private.authentication.authentication_token_setup"):
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return str(found) if found else None


def tell_nodes(address: str) -> None:
    """Print, a line each, that Ray is imported, and as JSON the living nodes of the cluster at HOST:PORT.

    For a child process: Ray's client of the cluster's control service may end its process. A node is `here` as Ray
    sees it, by this machine's processes, and where its socket can be reached.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    print("imported", file=out, flush=True)
    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=60).items()
        ours = services.find_node_ids()
        alive = [(key.hex(), node) for key, node in nodes if node.state == 0]  # GcsNodeState.ALIVE
        answer: dict[str, Any] = {
            "nodes": [
                {"address": node.node_manager_address, "here": key in ours and _reached(node.raylet_socket_name)}
                for key, node in alive
            ]
        }
    except Exception as error:
        answer = {"error": text_of(error)}
    print(json.dumps(answer), file=out, flush=True)
    os._exit(0)  # nothing of Ray's may hold up the end


def _reached(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as end:
        return end.connect_ex(path) == 0


def light_start(verbose: bool) -> contextlib.AbstractContextManager[None]:
    """Without the process that scales a cluster, here of one machine, and the one that brings logs to the terminal."""
    there = [] if verbose or os.environ.get(RAYS_OWN_WAY) else [name for name in MONITORS if hasattr(Node, name)]
    return replaced(Node, **dict.fromkeys(there, lambda self: None))


def quiet_start(verbose: bool) -> contextlib.AbstractContextManager[None]:
    """Without the lines that Ray logs about a failing start: the error that it raises is told in one."""
    return _without_lines(*([] if verbose else ["ray._private.services", "ray._private.node"]))


@contextlib.contextmanager
def _without_lines(*modules: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in modules:
            stack.enter_context(replaced(logging.getLogger(name), disabled=True))
        yield


def abandon(error: BaseException) -> Path | None:
    """End what a `ray.init` that raised `error` has started, for Ray forgets it; its folder of logs, if there is one.

    The node whose start failed is found in the error's traceback.
    """
    return _end(_nodes_in(error))


def abandon_start() -> tuple[str, Path | None]:
    """As abandon, for a `ray.init` that hangs in the main thread, and at once: what it waits for, and the logs.

    The node is found where the main thread is, or where `ray.init` has put it.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = (frame for frame, _ in traceback.walk_stack(frame))
    nodes = list(_nodes_at(frames))
    if not nodes and (node := ray._private.worker._global_node):
        nodes = [node]
    started = {kind for node in nodes for kind in getattr(node, "all_processes", {})}
    waits_for = ray_constants.PROCESS_TYPE_RAYLET
    return waits_for if waits_for in started else ray_constants.PROCESS_TYPE_GCS_SERVER, _end(nodes, wait=False)


def _end(nodes: Iterable[Node], wait: bool = True) -> Path | None:
    logs = None
    for node in nodes:
        if getattr(node, "all_processes", None):  # none where it only joined
            node.kill_all_processes(check_alive=False, allow_graceful=False, wait=wait)
        logs = Path(node.get_logs_dir_path()) if hasattr(node, "_logs_dir") else logs
    return logs


def _nodes_in(error: BaseException | None) -> Iterator[Node]:
    """The nodes at work in the tracebacks of the error and its causes; Ray makes an error its own cause."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    yield from _nodes_at(frame for each in errors for frame, _ in traceback.walk_tb(each.__traceback__))


def _nodes_at(frames: Iterable[FrameType]) -> Iterator[Node]:
    nodes = {id(node): node for frame in frames if isinstance(node := frame.f_locals.get("self"), Node)}
    yield from nodes.values()
