"""The workers of one trial: who this one is, and what they tell each other."""

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_Value = TypeVar("_Value")


def world() -> tuple[int, int]:
    """This worker's rank and the number of workers."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gathered(value: _Value) -> list[_Value]:
    """The values of all workers in the order of their ranks; every worker calls this."""
    values = [value] * world()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def all_reduce(values: Tensor) -> Tensor:
    """The values summed over all workers, in place; every worker calls this."""
    if world()[1] > 1:
        dist.all_reduce(values)
    return values


def distributed(model: nn.Module) -> nn.Module:
    """The network as it averages its gradients over the workers; the network itself where there is one worker."""
    _, workers = world()
    if workers == 1:
        return model
    device = next(model.parameters()).device
    if device.type == "cuda":  # statistics of the whole batch, which PyTorch has for GPUs only
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[device], broadcast_buffers=False)
    return DistributedDataParallel(model)


def from_first(value: _Value) -> _Value:
    """Rank 0's value, in every worker; every worker calls this."""
    values = [value]
    if world()[1] > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]
