"""A trial's only worker meets nobody: it needs no SynchronizationActor, which Train starts for each trial's workers."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray

from raycifar.execution.ray_private.ways import replaced

try:
    from ray.train.v2._internal.execution.worker_group import state, worker_group
except ImportError:
    state = worker_group = None
REPLACED = [(worker_group, "SynchronizationActor"), (state, "_shutdown_sync_actor")]


class _Method:
    """Of an actor that is not there: the caller's own process has the answer."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        return ray.put(self._answer(*args, **kwargs))


def _own_data(world_size: int, data: Any, **_: Any) -> Any:
    """What rank 0 sends to all is what the only worker has."""
    if world_size != 1:
        raise ValueError(f"{world_size} workers have to meet")
    return data


def _nothing(*_: Any, **__: Any) -> None:
    return None


class Nobody:
    """In the place of Train's SynchronizationActor and of the handle of one."""

    broadcast_from_rank_zero = _Method(_own_data)
    reset = set_required_ranks = _Method(_nothing)

    @classmethod
    def options(cls, **_: Any) -> type["Nobody"]:
        return cls

    @classmethod
    def remote(cls, **_: Any) -> "Nobody":
        return cls()


def nobody_to_meet() -> AbstractContextManager[None]:
    """What Train starts meanwhile is a trial of one worker."""
    return replaced(worker_group, SynchronizationActor=Nobody)


def let_nobody_rest() -> None:
    """Train ends the actor of each group of workers: Nobody has no end. For once a process."""
    end = state._shutdown_sync_actor
    state._shutdown_sync_actor = lambda actor: None if isinstance(actor, Nobody) else end(actor)
