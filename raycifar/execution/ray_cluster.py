"""Ray itself: started on this machine or joined, looked at, watched while it runs, and left."""

import contextlib
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import torch

from raycifar.devices import logical_gpus
from raycifar.execution import interruption
from raycifar.execution.placement import Machine, PlacementError
from raycifar.execution.ray_private import choose_interfaces
from raycifar.program import program

ASK_SECONDS = 10.0  # Ray is asked so often whether it lives, and has so long to answer
MOST_UNANSWERED = 6  # times in a row
START_SECONDS = 300.0  # at most, for Ray to start: it waits for its first workers without a limit of its own
OBJECT_STORE_BYTES = 200 * 2**20  # only small messages go through it


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray sees, and where it can be looked at."""

    machine: Machine
    dashboard: str | None


@contextmanager
def cluster(address: str | None = None, verbose: bool = False) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `address`; leave it at the end. Raises PlacementError.

    `verbose` shows what Ray and the workers log; Ray's warnings about the machine are always shown. Where this process
    is on a cluster already, that one is used, and left only after an interruption: nothing else ends what runs there.
    """
    own = not ray.is_initialized()
    dashboard = _connect(address, verbose) if own else None
    try:
        yield Cluster(_machine(), dashboard)
    finally:
        if own:
            shut_down()


def shut_down() -> None:
    """Leave Ray; a process that hangs there ends all the same."""
    with interruption.ends_within(interruption.LEAVE_SECONDS):  # Ray waits for threads of its own without a limit
        ray.shutdown()


def _machine() -> Machine:
    resources = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    to_a_gpu = [node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU")]
    return Machine(
        gpus=int(resources.get("GPU", 0)),
        cpus=int(resources.get("CPU", 0)),
        node_cpus=min(int(node["CPU"]) for node in nodes if node.get("CPU")),
        memory=resources.get("memory", math.inf),
        gpu_cpus=int(min(to_a_gpu, default=0) * resources.get("GPU", 0)),
    )


def gpus_can_compute() -> bool:
    """Whether this machine's PyTorch can use the GPUs that Ray schedules, or a test wants them logical."""
    return torch.cuda.is_available() or logical_gpus()


def _connect(address: str | None, verbose: bool) -> str | None:
    """The dashboard's address, once Ray runs."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    start = {} if address else {"object_store_memory": OBJECT_STORE_BYTES}
    choose_interfaces(address)
    try:
        with interruption.ends_within(START_SECONDS):
            context = ray.init(
                address=address or "local",
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                include_dashboard=True,
                **start,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"to the Ray cluster at {address}" if address else "to a Ray of its own on this machine"
        reason = " ".join(str(error).split())[:300]
        raise PlacementError(
            f"cannot connect {where}: {reason}; try `ray status`, or --local to do without Ray"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end the call without a word
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


@contextmanager
def watched() -> Iterator[None]:
    """Ends this process where Ray dies: Tune would wait in calls that are deaf to Ctrl-C, or for room on no node."""
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(over,), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join(3)  # what follows may shut Ray down: not under a question


def _watch(over: threading.Event) -> None:
    unanswered = 0  # times in a row, and no time of day: a machine that slept is no hang
    while unanswered < MOST_UNANSWERED and not over.wait(ASK_SECONDS):
        lives = _lives()
        if lives is False:
            break
        unanswered = 0 if lives else unanswered + 1
    if not over.is_set():
        line = f"{program().run}: Ray died, or was killed. The same command goes on."
        print(f"\n{line}", file=sys.stderr, flush=True)
        os._exit(1)


def _lives() -> bool | None:
    """Whether Ray counts this machine among its living nodes; None where it does not say so in time."""
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            here = ray.get_runtime_context().get_node_id()
            answers.append(any(node["Alive"] and node["NodeID"] == here for node in ray.nodes()))

    if ray.is_initialized():
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ASK_SECONDS)
    return answers[0] if answers else None
