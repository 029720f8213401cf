"""How a trial's workers meet: one alone not at all, those on this machine's own Ray by loopback, others as Ray does.

PyTorch's store has no authentication and listens on every interface (pytorch#173909), unless it is handed a socket that
is bound already.
"""

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
import ray.train.torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore  # as torch.distributed offers it, and mypy does not see

from raycifar.execution.ray_private.trials import TorchBackend, set_ranks

LOOPBACK = "127.0.0.1"
_bound: list[socket.socket] = []  # in rank 0: the socket of the store, until that takes it


@dataclass
class Meeting(ray.train.torch.TorchConfig):  # type: ignore[misc]
    """In the place of Ray's TorchConfig."""

    @property
    def backend_cls(self) -> type[TorchBackend]:
        return _Backend


class _Backend(TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Meeting) -> None:
        workers = len(worker_group)
        if workers > 1 and not worker_group.execute_single(0, is_on_loopback):
            super().on_start(worker_group, backend_config)
            return
        worker_group.execute(set_ranks)
        if workers == 1:
            return
        port = worker_group.execute_single(0, bind)
        group = (workers, port, backend_config.backend, backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(rank, meet, rank, *group) for rank in range(workers)])


def is_on_loopback() -> bool:
    """Whether Ray knows this node by a loopback address: then it is the only one."""
    return ipaddress.ip_address(ray.util.get_node_ip_address()).is_loopback


def bind() -> int:
    """In rank 0: a socket of this machine alone for the store; its port."""
    _bound[:] = [socket.create_server((LOOPBACK, 0))]
    return int(_bound[0].getsockname()[1])


def meet(rank: int, workers: int, port: int, backend: str, timeout_s: int) -> None:
    """In every worker: the process group, whose connections stay on loopback too."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    for library in ("GLOO", "NCCL"):  # between GPUs of one machine, NCCL's data take no socket
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", loopback)
    timeout = timedelta(seconds=timeout_s)
    listening = _bound.pop().detach() if rank == 0 else None
    store = TCPStore(LOOPBACK, port, workers, rank == 0, timeout, master_listen_fd=listening)
    dist.init_process_group(backend, store=store, rank=rank, world_size=workers, timeout=timeout)
