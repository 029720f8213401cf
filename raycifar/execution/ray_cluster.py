"""Ray itself: started on this machine or joined, looked at, watched while it runs, and left."""

import contextlib
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray

from raycifar.devices import threads_left
from raycifar.execution import interruption, ray_faults
from raycifar.execution.placement import Machine, PlacementError
from raycifar.execution.ray_address import check_address, check_cluster, check_environment
from raycifar.execution.ray_private.start import (
    abandon,
    abandon_start,
    choose_interfaces,
    cluster_address,
    forget_own_ray,
    hide_token,
    light_start,
    quiet_start,
)
from raycifar.program import program

ASK_SECONDS = 10.0  # Ray is asked so often whether it lives, and has so long to answer
MOST_UNANSWERED = 6  # times in a row
START_SECONDS = 300.0  # at most, for Ray to start: it waits for its first workers without a limit of its own
BAD_START = 2  # the exit status, as of bad input
LEAST_THREADS = 230  # that a sweep of one trial takes: 229 to 233 on 2 cores, 443 to 448 with the dashboard (n = 3)
LEAST_WITH_DASHBOARD = 460
OBJECT_STORE_BYTES = 200 * 2**20  # only small messages go through it


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Ray sees, and where it can be looked at."""

    machine: Machine
    dashboard: str | None
    notice: str = ""  # that Ray's dashboard did not start, and why


@contextmanager
def cluster(address: str | None = None, verbose: bool = False) -> Iterator[Cluster]:
    """Start Ray on this machine, or join the cluster at `address`; leave it at the end. Raises PlacementError.

    `verbose` shows what Ray and the workers log; Ray's warnings about the machine are always shown. Where this process
    is on a cluster already, that one is used, and left only after an interruption: nothing else ends what runs there.
    """
    own = not ray.is_initialized()
    dashboard, notice = _connect(address, verbose) if own else (None, "")
    try:
        yield Cluster(_machine(), dashboard, notice)
    finally:
        if own:
            shut_down()


def shut_down() -> None:
    """Leave Ray; a process that hangs there ends all the same."""
    with interruption.ends_within(interruption.LEAVE_SECONDS):  # Ray waits for threads of its own without a limit
        ray.shutdown()
    forget_own_ray()


def _machine() -> Machine:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return machine_of(ray.cluster_resources(), nodes)


def machine_of(resources: dict[str, float], nodes: Sequence[dict[str, float]]) -> Machine:
    """What trials may use, from Ray's resources in all and node by node. Raises PlacementError without a CPU."""
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU")]
    if not cpus:
        raise PlacementError(
            f"the Ray cluster has {len(nodes)} nodes, and no CPU among them yet: "
            "give the command again once nodes with CPUs have joined (`ray status` lists them)"
        )
    to_a_gpu = [node.get("CPU", 0) / node["GPU"] for node in nodes if node.get("GPU")]
    return Machine(
        gpus=int(resources.get("GPU", 0)),
        cpus=int(resources.get("CPU", 0)),
        node_cpus=min(cpus),
        memory=resources.get("memory", math.inf),
        gpu_cpus=int(min(to_a_gpu, default=0) * resources.get("GPU", 0)),
    )


def _connect(address: str | None, verbose: bool) -> tuple[str | None, str]:
    """The dashboard's address once Ray runs, and a line where the dashboard failed."""
    if line := check_environment(address, os.environ):
        print(f"{program().run}: {line}", file=sys.stderr, flush=True)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        return _join(address, verbose) if address else _start(verbose)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end the call without a word


def _join(address: str, verbose: bool) -> tuple[str | None, str]:
    """Raises PlacementError where no cluster answers at the address, or this machine is no node of it."""
    check_address(address)
    try:
        found = cluster_address(address)
    except ConnectionError:
        found = None
    if found is None:
        raise PlacementError(f"--address {address}: no Ray runs on this machine: start it, or name its HOST:PORT")
    check_cluster(found, address)
    try:
        return _init(address, verbose, dashboard=True), ""
    except Exception as error:
        _clean_up(error)
        raise PlacementError(ray_faults.no_joining(error, address)) from error


def _start(verbose: bool) -> tuple[str | None, str]:
    """A Ray of our own; without its dashboard where only that fails, or would. Raises PlacementError."""
    left = threads_left()  # with too few, Ray's processes and this one are ended from below, or hang
    if left < LEAST_THREADS:
        raise PlacementError(ray_faults.no_room(left, LEAST_THREADS))
    if left < LEAST_WITH_DASHBOARD:
        return _start_without_dashboard(verbose, ray_faults.no_room_for_dashboard(left, LEAST_WITH_DASHBOARD))
    try:
        return _init(None, verbose, dashboard=True), ""
    except Exception as error:
        logs = _clean_up(error)
        if not ray_faults.of_dashboard(error) or ray_faults.limited(error, logs):
            raise PlacementError(ray_faults.no_start(error, logs)) from error
        why = ray_faults.no_dashboard(error, logs)
    return _start_without_dashboard(verbose, why)


def _start_without_dashboard(verbose: bool, why: str) -> tuple[None, str]:
    try:
        _init(None, verbose, dashboard=False)
    except Exception as error:
        raise PlacementError(ray_faults.no_start(error, _clean_up(error))) from error
    return None, why


def _init(address: str | None, verbose: bool, dashboard: bool) -> str | None:
    """Ray's own exceptions go through; the dashboard's address comes back."""
    start = {} if address else {"object_store_memory": OBJECT_STORE_BYTES}
    choose_interfaces(address)
    if not address:
        hide_token()
    with _given_up(address), quiet_start(verbose), light_start(verbose):
        context = ray.init(
            address=address or "local",
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            include_dashboard=dashboard,
            **start,
        )
    return f"http://{context.dashboard_url}" if context.dashboard_url else None


@contextmanager
def _given_up(address: str | None) -> Iterator[None]:
    """A start that hangs ends this process with one line, status 2; or with its stacks where no thread can run."""
    timer = threading.Timer(START_SECONDS, _give_up, (address,))
    timer.daemon = True
    with interruption.ends_within(START_SECONDS + interruption.LEAVE_SECONDS):
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _give_up(address: str | None) -> None:
    part, logs = abandon_start()
    error = TimeoutError(f"{part} has not answered within {START_SECONDS:.0f} s")
    line = ray_faults.no_joining(error, address) if address else ray_faults.no_start(error, logs)
    print(f"{program().run}: {line}", file=sys.stderr, flush=True)
    os._exit(BAD_START)


def _clean_up(error: BaseException) -> Path | None:
    """Nothing of the Ray that failed to start goes on running; its folder of logs, if there is one."""
    interruption.end_may_hang()  # without room for a thread, gRPC waits at the end for one that never began
    logs = abandon(error)
    shut_down()
    return logs


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
