"""How many workers on which share of a GPU, how many trials at once, in which order: pure arithmetic."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raycifar.config.sweep import TrialSpec
from raycifar.devices import MOST_SHARED
from raycifar.errors import InputError
from raycifar.networks.cost import work

# A trial on t CPU threads trains t ** 0.91 times as fast as on one: two trials of one thread each do 361 images/s
# together on two AMD EPYC cores where one trial of two threads does 340 (bf16, batch 128).
CPU_SCALING = 0.91
CPU_FLOPS = 0.34e12  # a second, on one of those threads
START_SECONDS = 15.0  # from a trial's start under Ray to its first step on a CPU
MOST_GPU_THREADS = 4  # a worker that feeds a GPU gains nothing from more
DRIVER_CPUS = 0.01  # what a trial's driver takes of Ray's count: it only waits, but zero is refused
WORKER_BYTES = 2.1e9  # resident memory of a trial of one worker under Ray, its helper processes included
UNLIMITED = 1e18  # bytes; a plain number, for it travels as JSON
SHARES = 10_000  # Ray counts in ten-thousandths, and rounds


class PlacementError(InputError):
    """The trials do not fit the machine; the message says what was asked for, what is available, and the remedy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a sweep's trials run. Longest first; `at_once` of them at the same time."""

    order: tuple[TrialSpec, ...]
    at_once: int
    workers: int  # a trial
    gpus_per_worker: float  # 0 on CPUs
    threads: int  # a worker
    cpus_per_worker: float  # of Ray's count: a little less than its threads, so that drivers and workers fit
    image_bytes: float = UNLIMITED  # of memory that a worker on CPUs may fill with images; a GPU is asked by its worker

    @property
    def uses_gpu(self) -> bool:
        return self.gpus_per_worker > 0


@dataclass(frozen=True, slots=True)
class Machine:
    """The GPUs, cores and memory to use: of one machine, or of all nodes of a cluster together."""

    gpus: int
    cpus: int
    node_cpus: int  # of the smallest node: a worker has to fit on one
    memory: float  # bytes
    gpu_cpus: int = 0  # on nodes with GPUs, if each GPU had as few cores as on the poorest node; 0: all cores

    @property
    def cpus_for_gpus(self) -> int:
        """Cores that workers on GPUs can have."""
        return min(self.cpus, self.gpu_cpus or self.cpus)


def make_plan(trials: Sequence[TrialSpec], machine: Machine, trials_per_gpu: int = 1, workers: int = 1) -> Plan:
    """Place the trials on the machine's GPUs, or on its CPU cores where it has no GPU. Raises PlacementError."""
    gpus = machine.gpus
    order = tuple(sorted(trials, key=work, reverse=True))
    _check_batches(order, workers)
    if gpus == 0:
        return _plan_on_cpus(order, machine, trials_per_gpu, workers)
    if workers > 1 and trials_per_gpu > 1:
        raise PlacementError(
            "--trials-per-gpu and --workers-per-trial exclude each other: share GPUs, or use several a trial"
        )
    if workers > gpus:
        raise PlacementError(
            f"--workers-per-trial {workers} needs {workers} GPUs, {gpus} to use: lower it, or raise --gpus"
        )
    machine = replace(machine, cpus=machine.cpus_for_gpus)
    trials_per_gpu = min(trials_per_gpu, -(-len(order) // gpus))  # Ray fills one GPU before it takes the next
    at_once = min(len(order), gpus * trials_per_gpu // workers)
    threads = max(1, min(MOST_GPU_THREADS, machine.node_cpus, machine.cpus // (at_once * workers)))
    share = SHARES // trials_per_gpu / SHARES  # rounded up, the last trial would not fit
    return Plan(order, at_once, workers, share, threads, _cpus_per_worker(machine, at_once, workers, threads))


def most_to_share(trials: Sequence[TrialSpec], machine: Machine) -> int:
    """The most trials that may share a GPU: as many as each GPU would get, as long as each has a core."""
    return max(1, min(-(-len(trials) // machine.gpus), machine.cpus_for_gpus // machine.gpus, MOST_SHARED))


def _cpus_per_worker(machine: Machine, at_once: int, workers: int, threads: int) -> float:
    """Where GPUs outnumber cores, the workers share them: Ray must not wait for cores that nobody will free."""
    share = (machine.cpus - at_once * DRIVER_CPUS) / (at_once * workers)
    return math.floor(min(threads, share) * (1 - 2 * DRIVER_CPUS) * SHARES) / SHARES


def _plan_on_cpus(order: tuple[TrialSpec, ...], machine: Machine, trials_per_gpu: int, workers: int) -> Plan:
    cpus = machine.cpus
    if trials_per_gpu > 1:
        raise PlacementError(f"--trials-per-gpu {trials_per_gpu} needs a GPU, and this runs on CPUs: leave it out")
    if workers > cpus:
        raise PlacementError(f"--workers-per-trial {workers} needs {workers} CPU cores, there are {cpus}: lower it")
    most = max(1, int(min(len(order), cpus // workers, machine.memory / (WORKER_BYTES * workers))))

    def predicted(at_once: int) -> float:
        threads = workers * _threads(machine, at_once * workers)
        return makespan([_cpu_seconds(trial, threads) for trial in order], at_once)

    at_once = min(range(1, most + 1), key=predicted)
    threads = _threads(machine, at_once * workers)
    cpus_per_worker = _cpus_per_worker(machine, at_once, workers, threads)
    return Plan(order, at_once, workers, 0.0, threads, cpus_per_worker, image_room(machine, at_once * workers))


def image_room(machine: Machine, processes: int) -> float:
    """The bytes of memory that each of so many workers on CPUs may fill with images; others it reads as it trains."""
    return min(UNLIMITED, max(0.0, machine.memory / processes - WORKER_BYTES))


def _threads(machine: Machine, processes: int) -> int:
    return max(1, min(machine.node_cpus, machine.cpus // processes))


def _cpu_seconds(trial: TrialSpec, threads: int) -> float:
    """The predicted seconds of a trial on CPUs; `threads` are those of all its workers together."""
    rate = CPU_FLOPS * math.pow(threads, CPU_SCALING)
    return START_SECONDS + work(trial) / rate


def _check_batches(trials: Sequence[TrialSpec], workers: int) -> None:
    """Every worker needs a share of every batch, the last one too."""
    for trial in trials:
        last = trial.data.images[0] % trial.batch_size
        smallest = trial.batch_size if trial.drop_last or not last else last
        if smallest < workers:
            raise PlacementError(
                f"trial {trial.name!r}: its smallest batch has {smallest} images, too few for {workers} workers: "
                "lower --workers-per-trial, or set drop_last = true"
            )


def makespan(durations: Sequence[float], slots: int) -> float:
    """When the last of `durations` ends if each, in order, starts on the first of `slots` that is free."""
    return max(finish_times(durations, slots))


def finish_times(durations: Sequence[float], slots: int) -> list[float]:
    """When each of `durations` ends if each, in order, starts on the first of `slots` that is free.

    Longest first this is Graham's LPT rule, never over 4/3 of the best makespan; n durations take O(n log slots).
    """
    free = [0.0] * min(slots, len(durations))
    ends = []
    for duration in durations:
        ends.append(free[0] + duration)
        heapq.heapreplace(free, ends[-1])
    return ends


def least_makespan(durations: Sequence[float], slots: int) -> float:
    """A bound that no placement beats: the longest duration, the mean load, the two that must share a slot.

    The `slots` + 1 longest need a slot for two of them: at least the two shortest of these.
    """
    longest = sorted(durations, reverse=True)
    pair = sum(longest[slots - 1 : slots + 1]) if len(longest) > slots else 0.0
    return max(longest[0], pair, math.fsum(durations) / slots)


def idle_share(durations: Sequence[float], slots: int) -> float:
    """The share of time that `slots` stand idle, from the first start to the last end."""
    return 1 - math.fsum(durations) / (slots * makespan(durations, slots))
