"""PyTorch's optimizers without the wrappers that import its compiler: 2 s of a CPU, and nothing here is compiled."""

import inspect
from typing import TypeVar

import torch

_WRAPPED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict", "step")
_Kind = TypeVar("_Kind", bound=type[torch.optim.Optimizer])


def eager(kind: _Kind) -> _Kind:
    """The class with these methods as they are beneath their decorators, which functools keeps as `__wrapped__`.

    What the decorators do beside asking the compiler is done here: no gradient is recorded.
    """
    for name in _WRAPPED:
        setattr(kind, name, torch.no_grad()(inspect.unwrap(getattr(kind, name))))
    return kind


@eager
class SGD(torch.optim.SGD):
    pass


@eager
class Adam(torch.optim.Adam):
    pass


@eager
class AdamW(torch.optim.AdamW):
    pass
