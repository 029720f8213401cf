"""The storages and tensors of a pickle, held to the bytes that its file has."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping, Sequence

# Bytes of tensors beyond four times the file's, where elements share memory; half precision doubles when it is read.
MOST_UNFOLDED = 200_000_000
_MOST_DIMENSIONS = 64
_STORAGES = {  # bytes of an element
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexDouble": 16, "ComplexFloat": 8, "Untyped": 1,
}  # fmt: skip
_TYPES = re.compile(r"torch\.(?:bool|(?:b?float|b?complex|u?int)(\d+)(?:_\w+)?)")


class PickleError(ValueError):
    """A pickle that nothing but an attack, or a use that is none of ours, would ask PyTorch to read."""


def refusal(name: str) -> Exception:
    """For what is called `name` and is neither a plain tensor nor a plain value."""
    if name.startswith("torch."):
        return PickleError(f"it holds more than plain tensors ({name[:60]}): save those alone")
    return pickle.UnpicklingError(f"it asks for {name[:60]}")


def bytes_in_storage(name: str) -> int:
    """Of an element of torch's storage of this name, such as torch.FloatStorage. Raises what refusal returns."""
    size = _STORAGES.get(name.rpartition(".")[2].removesuffix("Storage"))
    if size is None:
        raise refusal(name)
    return size


def bytes_of_type(name: str) -> int:
    """Of an element of torch's type of this name, such as torch.uint16. Raises what refusal returns.

    One of less than eight bits, such as torch.uint4 and torch.float4_e2m1fn_x2, has a byte.
    """
    if not (found := _TYPES.fullmatch(name)):
        raise refusal(name)
    return max(1, int(found[1] or 8) // 8)


class Storages:
    """The storages of an archive with these records, or of an older file, which are allocated as its pickle asks."""

    def __init__(self, size: int, records: Mapping[str, int] | None = None) -> None:
        self._sizes, self._left = dict(records or {}), 0 if records is not None else size
        self._unfolded = MOST_UNFOLDED + 4 * size  # bytes that tensors may still have
        self._named = dict[str, tuple[int, int]]()

    def find(self, name: str, elements: int, width: int) -> None:
        """One that has so many elements of `width` bytes each. Raises PickleError."""
        size = elements * width
        self._left -= 0 if name in self._sizes else size
        if self._sizes.setdefault(name, size) != size or self._left < 0:
            raise PickleError("its storages are not as large as its pickle says: it is cut short or damaged")
        self._name(name, elements, width)

    def view(self, name: str, of: tuple[int, int], offset: int, elements: int) -> tuple[int, int]:
        """A part of one `of` so many elements and bytes, and what the part has of both. Raises PickleError."""
        if not 0 <= offset <= offset + elements <= of[0]:
            raise PickleError("it has a view that reaches beyond its storage")
        self._name(name, elements, of[1])
        return elements, of[1]

    def _name(self, name: str, elements: int, width: int) -> None:
        """PyTorch keeps the first storage or view of a name, with its type, whatever is said of it later."""
        first = (elements, width) if elements else (0, 0)
        if self._named.setdefault(name, first) != first:
            raise PickleError("its pickle gives one storage two types or two lengths: it is damaged")

    def tensor(self, held: int, width: int, offset: int, sizes: Sequence[int], steps: Sequence[int]) -> None:
        """One in a storage of `held` bytes, whose elements have `width` bytes. Raises PickleError."""
        if len(sizes) > _MOST_DIMENSIONS or len(sizes) != len(steps) or min(offset, *sizes, *steps, 0) < 0:
            raise PickleError("it has a tensor that no network has")
        count = math.prod(sizes)
        end = 1 + offset + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True)) if count else 0
        if end * width > held:
            raise PickleError("it has a tensor that reaches beyond its storage")
        self._unfolded -= count * width
        if self._unfolded < 0:
            raise PickleError("its tensors stand for many times the file's bytes: save their clone()")
