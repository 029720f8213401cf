"""Goes through a pickle's instructions as a pickle machine does, with sizes in the place of values.

PyTorch's restricted reader (`weights_only`) runs no code, but does whatever else a pickle asks for: allocate, copy,
hash or show the same values over and over. What passes here takes a time and a memory that grow with the file alone.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raycifar.storage.pickles.storages import PickleError, Storages, bytes_in_storage, bytes_of_type, refusal

MOST_BYTES = 5_000_000  # of a pickle; a trial's state has 50 kB. Python takes up to 70 times that to read it
MOST_STEPS = 1_500_000  # instructions of a pickle, each 3 microseconds; a trial's state has 3,000
MOST_COPIED = 2_000_000  # values that calls are given and texts that are keys, all together
MOST_IN_KEY = 100  # values in a tuple that is a dictionary's key
MOST_IN_NAME = 200  # characters: PyTorch looks through a name that it refuses in the square of the time
MOST_UNUSUAL_KEYS = 10_000  # that are no texts and no small numbers: thousands can be made to share a place
_COUNTED_AS_ONE = 25  # characters of a text that is copied
_MAGIC = 0x1950A86A20F9469CFC6C  # what a file of PyTorch before 1.6 begins with
_COMPUTED = ("real", "imag")  # attributes of a tensor that copy it when they are set
_CODECS = ("latin1", "latin-1")  # as bytes are pickled


@dataclass(slots=True)
class _Value:
    """What stands for a value: its kind, what of it is asked for later, and how many values copying it takes.

    A list's and a dictionary's weight grow with it, and are what it holds itself: nothing may go through what lies in
    a list or in a dictionary inside another value.
    """

    kind: str
    content: Any = None
    weight: int = 1


def check_pickle(content: bytes, records: Mapping[str, int]) -> None:
    """Raises PickleError where reading the `data.pkl` of an archive would take more than the file has.

    `records` has the bytes of each storage, by its name. Raises pickle.UnpicklingError for what PyTorch refuses.
    """
    if len(content) > MOST_BYTES:
        raise PickleError(f"its data.pkl has {len(content):,} bytes, of {MOST_BYTES:,} at most")
    _Reader(Storages(sum(records.values()), records)).read(io.BytesIO(content))


def check_legacy(start: bytes, size: int) -> None:
    """As check_pickle, for a file of PyTorch before 1.6 of `size` bytes, whose first MOST_BYTES + 1 are `start`.

    What is no such file passes: PyTorch ends at its first bytes.
    """
    file = io.BytesIO(start)
    reader = _Reader(Storages(size))
    try:
        if reader.read(file).content != _MAGIC:
            return
        if reader.read(file).kind != "number":  # PyTorch shows what it does not expect, however long that is
            raise pickle.UnpicklingError("damaged, or not written by torch.save: its version is no number")
        for _ in range(3):  # types, the state, the storages' order
            reader.read(file)
    except (pickle.UnpicklingError, EOFError):
        if len(start) > MOST_BYTES and file.tell() == len(start):
            raise PickleError(f"its pickles have more than {MOST_BYTES:,} bytes") from None
        raise


class _Reader:
    """A pickle machine whose values stand for others."""

    def __init__(self, storages: Storages) -> None:
        self._storages = storages
        self._copied = self._unusual = self._steps = 0
        self._stack: list[_Value] = []
        self._outer: list[list[_Value]] = []
        self._memo: dict[int, _Value] = {}

    def read(self, file: io.BytesIO) -> _Value:
        """Goes through one pickle; returns what stands for its value."""
        self._stack, self._outer, self._memo = [], [], {}
        try:
            for instruction, argument, _ in pickletools.genops(file):
                self._steps += 1
                if self._steps > MOST_STEPS:
                    raise PickleError(f"its pickle has more than {MOST_STEPS:,} instructions")
                if instruction.name == "STOP":
                    return self._stack.pop()
                _INSTRUCTIONS[instruction.name](self, argument)
        except PickleError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, struct.error) as why:
            raise pickle.UnpicklingError(f"damaged, or not written by torch.save: {why}") from None
        raise EOFError

    def _push(self, kind: str, content: Any = None, weight: int = 1) -> None:
        self._stack.append(_Value(kind, content, weight))

    def _global(self, name: str) -> None:
        module, _, called = name.partition(" ")
        known = f"{'builtins' if module == '__builtin__' else module}.{called}"
        if len(known) > MOST_IN_NAME:
            raise refusal(known)
        self._push("global", known)

    def _mark(self, _: object) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[_Value]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _tuple(self, items: list[_Value]) -> None:
        self._push("tuple", items, min(1 + sum(item.weight for item in items), MOST_COPIED + 1))

    def _last(self, count: int) -> list[_Value]:
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _append(self, items: list[_Value]) -> None:
        self._top("list").content.extend(items)
        self._stack[-1].weight += len(items)

    def _set_items(self, items: list[_Value]) -> None:
        """A dictionary's content: whether it has the name of an attribute that is computed."""
        keys, held = items[::2], self._top("dict")
        self._check_keys(keys)
        held.weight += sum(key.weight for key in keys) + len(items) // 2
        held.content = held.content or any(key.content in _COMPUTED for key in keys)

    def _top(self, kind: str) -> _Value:
        _of(self._stack[-1], kind)
        return self._stack[-1]

    def _check_keys(self, keys: list[_Value]) -> None:
        """Others than texts and small numbers may be made to be compared with each other, or hashed without end.

        Long texts may be compared over and over with an equal one.
        """
        unusual = [key for key in keys if key.kind not in ("text", "number", "constant")]
        self._unusual += len(unusual)
        if self._unusual > MOST_UNUSUAL_KEYS or any(key.weight > MOST_IN_KEY for key in unusual):
            raise PickleError("its pickle has keys that would take too long to look up")
        self._copy([key for key in keys if key.kind == "text"])

    def _copy(self, values: list[_Value]) -> None:
        self._copied += sum(value.weight for value in values)
        if self._copied > MOST_COPIED:
            raise PickleError("its pickle copies the same values over and over")

    def _build(self, _: object) -> None:
        state = self._stack.pop()
        _of(state, "dict")
        self._top("dict")
        self._copy([state])

    def _call(self, _: object) -> None:
        function, arguments = self._last(2)
        self._stack.append(self._result(function, arguments))

    def _result(self, function: _Value, arguments: _Value) -> _Value:
        if function.kind != "global" or arguments.kind != "tuple":
            raise TypeError(f"a call of a {function.kind} with a {arguments.kind}")
        if function.content not in _CALLS:
            raise refusal(function.content)
        self._copy([arguments, *(value for value in arguments.content if value.kind in ("list", "dict"))])
        return _CALLS[function.content](self, *arguments.content)

    def _storage(self, _: object) -> None:
        """Its content: how many elements, and how many bytes each has."""
        what, kind, name, _, count, *view = self._stack.pop().content
        elements, width = count.content, bytes_in_storage(kind.content)
        if (what.content, name.kind) != ("storage", "text") or elements < 0:
            raise TypeError("no storage")
        self._storages.find(name.content, elements, width)
        held = (elements, width)
        if view and view[0].kind == "tuple":
            name, *place = (part.content for part in view[0].content)
            held = self._storages.view(name, held, *place)
        self._push("storage", held)

    def _tensor(self, storage: _Value, offset: _Value, shape: _Value, strides: _Value, *_: _Value) -> _Value:
        elements, width = _of(storage, "storage")
        return self._rebuilt(elements * width, width, offset, shape, strides)

    def _typed_tensor(self, storage: _Value, offset: _Value, shape: _Value, strides: _Value, *more: _Value) -> _Value:
        """Of another type than the storage's: it stands behind whether there is a gradient, and hooks."""
        elements, width = _of(storage, "storage")
        return self._rebuilt(elements * width, bytes_of_type(_of(more[2], "global")), offset, shape, strides)

    def _rebuilt(self, held: int, width: int, offset: _Value, shape: _Value, strides: _Value) -> _Value:
        sizes, steps = ([number.content for number in values.content] for values in (shape, strides))
        self._storages.tensor(held, width, offset.content, sizes, steps)
        return _Value("tensor")

    def _of_type(self, function: _Value, kind: _Value, arguments: _Value, state: _Value) -> _Value:
        """A tensor with attributes."""
        if kind.content not in _TENSORS or not str(function.content).startswith("torch._utils._rebuild_"):
            raise refusal(f"{function.content} of {kind.content}")
        self._result(function, arguments)
        return _with_attributes(state)

    def _set(self, items: _Value) -> _Value:
        self._check_keys(items.content)
        return _Value("set", None, items.weight)


def _of(value: _Value, kind: str) -> Any:
    """The content of a value of this kind."""
    if value.kind != kind:
        raise TypeError(f"a {value.kind} in the place of a {kind}")
    return value.content


def _with_attributes(state: _Value) -> _Value:
    """A tensor, each of whose attributes is set; PyTorch shows a state that it does not expect, however long it is."""
    if state.kind != "constant" and _of(state, "dict"):
        raise PickleError(f"it sets what a tensor computes ({', '.join(_COMPUTED)})")
    return _Value("tensor")


def _size(_: _Reader, numbers: _Value) -> _Value:
    """Of a tuple alone: whatever else has elements is gone through, a tensor and a storage too."""
    if any(number.kind not in ("number", "long") for number in _of(numbers, "tuple")):
        raise TypeError("a size of what is no number")
    return numbers


def _counted(_: _Reader, counts: _Value) -> _Value:
    return _Value("dict", _of(counts, "dict"), counts.weight)


def _bytes(_: _Reader, text: _Value = _Value("bytes"), codec: _Value | None = None) -> _Value:  # noqa: B008
    """Of a text whose signs are the bytes, or copied: never so many bytes as a number says."""
    if text.kind != ("bytes" if codec is None else "text") or (codec and codec.content not in _CODECS):
        raise TypeError("bytes in another code than torch.save's")
    return _Value("bytes", None, text.weight)


def _simple(_: _Reader, *values: _Value) -> _Value:
    if any(value.kind not in ("text", "number", "constant") for value in values):
        raise TypeError("arguments that are no numbers")
    return _Value("simple")


_TENSORS = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter")
_CALLS: dict[str, Callable[..., _Value]] = {
    "collections.OrderedDict": lambda _: _Value("dict"),
    "collections.Counter": _counted,
    "builtins.set": _Reader._set,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _bytes,
    "builtins.complex": _simple,
    "torch.device": _simple,
    "torch.Size": _size,
    **dict.fromkeys(["torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"], _Reader._tensor),
    "torch._utils._rebuild_tensor_v3": _Reader._typed_tensor,
    "torch.nn.parameter.Parameter": lambda *_: _Value("tensor"),
    "torch._utils._rebuild_parameter": lambda *_: _Value("tensor"),
    "torch._utils._rebuild_parameter_with_state": lambda *values: _with_attributes(values[4]),
    "torch._tensor._rebuild_from_type_v2": _Reader._of_type,
}
_Step = Callable[[_Reader, Any], None]
_INSTRUCTIONS: dict[str, _Step] = {
    "PROTO": lambda self, _: None,
    "GLOBAL": _Reader._global,
    "MARK": _Reader._mark,
    "TUPLE": lambda self, _: self._tuple(self._since_mark()),
    "EMPTY_TUPLE": lambda self, _: self._tuple([]),
    "TUPLE1": lambda self, _: self._tuple(self._last(1)),
    "TUPLE2": lambda self, _: self._tuple(self._last(2)),
    "TUPLE3": lambda self, _: self._tuple(self._last(3)),
    "EMPTY_LIST": lambda self, _: self._push("list", []),
    "EMPTY_DICT": lambda self, _: self._push("dict"),
    "EMPTY_SET": lambda self, _: self._push("set"),
    **dict.fromkeys(["NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT"], lambda self, _: self._push("constant")),
    **dict.fromkeys(["BININT", "BININT1", "BININT2"], lambda self, number: self._push("number", number)),
    "LONG1": lambda self, number: self._push("number" if abs(number) < 2**31 else "long", number),
    "BINUNICODE": lambda self, text: self._push("text", text, 1 + len(text) // _COUNTED_AS_ONE),
    "SHORT_BINSTRING": lambda self, text: self._push("text", text),
    "BINPERSID": _Reader._storage,
    **dict.fromkeys(["BINGET", "LONG_BINGET"], lambda self, place: self._stack.append(self._memo[place])),
    **dict.fromkeys(["BINPUT", "LONG_BINPUT"], lambda self, place: self._memo.__setitem__(place, self._stack[-1])),
    "APPEND": lambda self, _: self._append([self._stack.pop()]),
    "APPENDS": lambda self, _: self._append(self._since_mark()),
    "SETITEM": lambda self, _: self._set_items(self._last(2)),
    "SETITEMS": lambda self, _: self._set_items(self._since_mark()),
    **dict.fromkeys(["REDUCE", "NEWOBJ"], _Reader._call),
    "BUILD": _Reader._build,
}
