"""What is kept of tensors and numbers, by the version before the restructure and by the tests alike: plain JSON.

Nothing here imports raycifar, because make_files.py runs with the modules of the version before.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

TIMES = {"finished_at", "images_per_second", "ended_at", "started_at"}


def without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without seconds and times of day, which differ between runs, and without versions."""
    return {
        key: value
        for key, value in record.items()
        if key not in TIMES and key != "versions" and not key.endswith("_seconds")
    }


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a nested state with its dotted place; an empty container is a value."""
    if isinstance(state, Mapping) and state:
        for key, value in state.items():
            yield from leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(state, list | tuple) and state:
        for index, value in enumerate(state):
            yield from leaves(value, f"{place}.{index}")
    else:
        yield place, state


def layout(state: Mapping[str, Any]) -> dict[str, str]:
    """Of each leaf its type: "float32 64x3x3x3" of a tensor, "int" of a number, "[]" of an empty list."""
    return {place: _kind(value) for place, value in leaves(state)}


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {'x'.join(map(str, value.shape))}".strip()
    return repr(value) if isinstance(value, Mapping | list | tuple) else type(value).__name__


def digest(state: Mapping[str, Any]) -> str:
    """SHA-256 of all names, types, shapes and values."""
    result = hashlib.sha256()
    for place, value in leaves(state):
        result.update(f"{place} {_kind(value)} ".encode())
        result.update(value.contiguous().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
    return result.hexdigest()


def norms(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each tensor its Euclidean norm in float64: equal within rounding on every CPU."""
    return {name: weight.double().norm().item() for name, weight in weights.items()}


def cpu_kind() -> dict[str, Any]:
    """What decides the last bits of a sum on one thread: the CPU's instructions and caches, PyTorch's version."""
    used = torch.backends.cpu.get_cpu_capability()  # ATEN_CPU_CAPABILITY may ask for less than there is
    return {"torch": torch.__version__, "used": used, **torch.cpu.get_capabilities()}


def differences(expected: Any, found: Any, rel: float = 0.0, place: str = "") -> list[str]:
    """A line for each value of `expected` that `found` lacks or has otherwise; `found` may have more keys."""
    if isinstance(expected, Mapping):
        missing = [f"{place}.{key}: missing" for key in expected if key not in found]
        shared = [key for key in expected if key in found]
        return missing + [
            line for key in shared for line in differences(expected[key], found[key], rel, f"{place}.{key}")
        ]
    if isinstance(expected, list):
        pairs = enumerate(zip(expected, found, strict=False))
        lines = [line for i, (one, other) in pairs for line in differences(one, other, rel, f"{place}.{i}")]
        return lines if len(expected) == len(found) else [*lines, f"{place}: {len(found)} in place of {len(expected)}"]
    if type(expected) is float and type(found) is float and math.isclose(expected, found, rel_tol=rel):
        return []
    return [] if expected == found else [f"{place}: {found!r} in place of {expected!r}"]
