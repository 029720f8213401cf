"""Files of a trunk as others write them: safetensors, or what torch.save wrote; with the usual wrappings.

The content tells the kind of file, not its name. Nothing is unpickled but tensors in plain containers.
"""

from __future__ import annotations

import itertools
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raycifar.storage.asset_cache import Tensors
from raycifar.storage.files import open_file
from raycifar.storage.kinds import HEAD_BYTES, is_tar, is_text, kind_of
from raycifar.storage.tensor_files import check_pickles, check_saved, shapes_in

FEATURES = "features."  # torchvision's prefix of the trunk
MOST_BYTES = 4_000_000_000  # the whole of VGG16 has 553 MB
_MOST_LEVELS = 3  # of dictionaries in dictionaries: {"checkpoint": {"model": {...}}}
_MOST_PREFIXES = 20  # in one dictionary, of those with a first kernel of VGG16's shape
_NORM, _EPSILON = ("weight", "bias", "running_mean", "running_var"), 1e-5  # of PyTorch's batch normalisation
_REFUSED = "no state dict, or one that holds more than tensors, which may be code: refused"


def read_trunk(path: Path, names: Iterable[str]) -> Tensors:
    """The tensors of these torchvision names, such as `features.0.weight`, from a file of weights.

    Where they are followed by batch normalisation, as in torchvision's vgg16_bn and this product's own, it is folded
    into them. They may lie below a common prefix (`module.`, `model.`, `_orig_mod.`, `features.module.`), and in a
    dictionary within the file's (`state_dict`, `model`). Raises ValueError or TypeError where the file is of another
    kind, where a name is missing, or where several parts of it hold the trunk; OSError where it cannot be read.
    """
    state, short_names = _read_state(path), [name.removeprefix(FEATURES) for name in names]
    if folded := _folded(state, short_names):
        return {FEATURES + name: folded[name] for name in short_names}
    place = find_trunk(state, short_names)
    return {FEATURES + name: place.array(name) for name in short_names}


def _folded(state: Mapping[str, Any], names: list[str]) -> Tensors | None:
    """The trunk of the one VGG with batch normalisation in the state: convolutions that compute the same in evaluation.

    Each is followed by its normalisation, so its number is higher by those before it. Its own bias may be missing.
    """
    numbers = {plain: plain + before for before, plain in enumerate(sorted({int(n.partition(".")[0]) for n in names}))}
    needed = {f"{n}.weight" for n in numbers.values()}
    needed |= {f"{n + 1}.{part}" for n in numbers.values() for part in _NORM}
    places = [place for place in _places(state, _prefixes) if place.content.keys() >= needed]
    if len(places) != 1:
        return None
    return {f"{plain}.{part}": value for plain, n in numbers.items() for part, value in _fold(places[0], n).items()}


def _fold(place: Place, number: int) -> Tensors:
    """Kernel (O, I, 3, 3) and bias (O,) of a convolution and the normalisation behind it."""
    weight, bias, mean, variance = (place.array(f"{number + 1}.{part}").astype(np.float64) for part in _NORM)
    scale = weight / np.sqrt(variance + _EPSILON)
    before = place.array(f"{number}.bias") if f"{number}.bias" in place.content else 0.0
    kernel = place.array(f"{number}.weight") * scale[:, None, None, None]
    return {"weight": kernel.astype(np.float32), "bias": ((before - mean) * scale + bias).astype(np.float32)}


def read_network(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """As read_trunk, for the tensors of a library's network by their names in its state dict; a head is left behind."""
    state, names = _read_state(path), list(shapes)
    first = next(name for name, shape in shapes.items() if len(shape) > 1)
    places = _places(state, partial(_prefixes_of, first, shapes[first]))
    complete = [place for place in places if place.content.keys() >= set(names)]
    complete = [place for place in complete if not place.keys and not place.prefix] or complete
    if len(complete) > 1:
        raise ValueError(f"several parts hold the network ({_listed(complete)}): save one of them by itself")
    if not complete:
        raise ValueError(_missing_of(state, places, names))
    return {name: complete[0].array(name) for name in names}


def _prefixes_of(first: str, shape: tuple[int, ...], part: Mapping[Any, Any]) -> list[str]:
    """What stands before the name of the first kernel, where a tensor of its shape has it: "", "module." and so on."""
    found = [str(name) for name, value in part.items() if tuple(getattr(value, "shape", ())) == shape]
    prefixes = {name.removesuffix(first) for name in found if name.endswith(first)}
    return sorted(prefix for prefix in prefixes if not prefix or prefix.endswith("."))[:_MOST_PREFIXES]


def _missing_of(state: Mapping[str, Any], places: list[Place], names: list[str]) -> str:
    nearest = max(places, key=lambda place: len(place.content.keys() & set(names)), default=Place((), "", {}))
    missing = next(name for name in names if name not in nearest.content)
    return f"{nearest}{missing} is missing: the file holds {_listed(state) or 'nothing'}"


@dataclass(frozen=True)
class Place:
    """A part of a file that may hold the trunk: `keys` lead to a dictionary, whose names have this prefix."""

    keys: tuple[str, ...]
    prefix: str
    content: Mapping[str, Any]  # by the name behind the prefix, as in `0.weight`

    def __str__(self) -> str:
        return "".join(f"{key}: " for key in self.keys) + self.prefix

    @property
    def is_torchvisions(self) -> bool:
        return not self.keys and self.prefix == FEATURES

    def array(self, name: str) -> np.ndarray:
        """The tensor of this name, half precision as float32. Raises TypeError where something else has the name."""
        import torch

        value = self.content[name]
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"{self}{name} is a {type(value).__name__}, expected a tensor")
        is_half = value.is_floating_point() and value.element_size() < 4  # also bfloat16, which NumPy has not
        array: np.ndarray = (value.float() if is_half else value).detach().numpy()
        return array


def find_trunk(state: Mapping[str, Any], names: list[str]) -> Place:
    """The one place in a state dict that holds all these names. Raises ValueError where none does, or several do."""
    places = _places(state, _prefixes)
    for place in places:
        for name in place.content.keys() & set(names) if place.is_torchvisions else ():
            place.array(name)
    complete = [place for place in places if place.content.keys() >= set(names)]
    complete = [place for place in complete if place.is_torchvisions] or complete
    if len(complete) > 1:
        raise ValueError(f"several parts hold VGG16's convolutions ({_listed(complete)}): save one of them by itself")
    if complete:
        return complete[0]
    raise ValueError(_what_is_missing(state, places, names))


def _what_is_missing(state: Mapping[str, Any], places: list[Place], names: list[str]) -> str:
    if any("1.running_mean" in place.content for place in places):
        return "this is a VGG with batch normalisation, but not one VGG16 with all that belongs to it"
    nearest = max(places, key=lambda place: len(place.content.keys() & set(names)), default=Place((), FEATURES, {}))
    missing = next(name for name in names if name not in nearest.content)
    return f"{nearest}{missing} is missing: the file holds {_listed(state) or 'nothing'}"


def _places(state: Mapping[str, Any], prefixes: Callable[[Mapping[Any, Any]], list[str]]) -> list[Place]:
    """Where the network may lie: each dictionary with each of its prefixes."""
    return [Place(keys, prefix, _below(prefix, part)) for keys, part in _parts(state) for prefix in prefixes(part)]


def _parts(state: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """The dictionary and those in it, each once, with the keys that lead there."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any]]] = [((), state)]
    while waiting:
        keys, part = waiting.pop(0)
        if id(part) in seen:  # a pickle may hold a dictionary that holds itself
            continue
        seen.add(id(part))
        yield keys, part
        inner = part.items() if len(keys) < _MOST_LEVELS else ()
        waiting += [((*keys, str(key)), value) for key, value in inner if isinstance(value, Mapping)]


def _prefixes(part: Mapping[Any, Any]) -> list[str]:
    """What stands before the number of the trunk's first layer: "features.", "module.features.", "" and so on."""
    names = [str(name) for name, value in part.items() if str(name).endswith("0.weight") and _is_first_kernel(value)]
    others = {name.removesuffix("0.weight") for name in names} - {FEATURES}
    torchvisions = [FEATURES] if any(str(name).startswith(FEATURES) for name in part) else []
    return torchvisions + sorted(prefix for prefix in others if not prefix or prefix.endswith("."))[:_MOST_PREFIXES]


def _below(prefix: str, part: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name).removeprefix(prefix): value for name, value in part.items() if str(name).startswith(prefix)}


def _listed(names: Iterable[object]) -> str:
    shown = [str(name)[:60] for name in names]
    return ", ".join(shown[:4]) + (" and more" if len(shown) > 4 else "")


def _is_first_kernel(value: object) -> bool:
    return tuple(getattr(value, "shape", ())) == (64, 3, 3, 3)


def _read_state(path: Path) -> Mapping[str, Any]:
    with open_file(path) as file:
        head = file.read(HEAD_BYTES)
    kind = kind_of(head)
    if head.startswith(b"PK\x03\x04"):
        kind = _kind_of_zip(path)
    elif is_tar(head):
        kind = _kind_of_tar(path)
    if kind:
        raise ValueError(f"no state dict but {kind}")
    by_name = path.suffix == ".safetensors" and not head.startswith((b"PK\x03\x04", b"\x80"))  # not torch.save's
    if by_name or head[8:9] == b"{":  # behind the header's length
        from safetensors.torch import load_file

        shapes_in(path, MOST_BYTES)  # its header is read before anything else
        return load_file(path)
    return _unpickled(path, is_text(head))


def _kind_of_zip(path: Path) -> str | None:
    """What a zip archive is that is no file of torch.save; None for one that is."""
    try:
        members = [name.rpartition("/")[2] for name in check_saved(path)]
    except ValueError as why:
        return str(why)
    except (zipfile.BadZipFile, NotImplementedError):
        return "a zip archive that is cut short or damaged: get it again"
    if "constants.pkl" in members:
        return "a TorchScript archive, which holds code: save the state_dict() of its model"
    if "data.pkl" in members:
        return None
    if members and all(name.endswith(".npy") for name in members):
        return "a NumPy archive (.npz)"
    return "a Keras model (.keras)" if "model.weights.h5" in members else kind_of(b"PK\x03\x04")


def _kind_of_tar(path: Path) -> str:
    """What a tar archive is: early versions of PyTorch wrote such files, which cannot be read without running code."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = {member.name for member in itertools.islice(archive, 4)}
    except tarfile.TarError:
        return "a tar archive that is cut short or damaged: get it again"
    if {"pickle", "storages"} <= members:
        return (
            "a file of PyTorch before 0.1.10, which may hold code: if you trust it, write it anew: "
            "torch.save(torch.load(FILE, weights_only=False), NEW)"
        )
    return "a tar archive: unpack it first"


def _unpickled(path: Path, is_text: bool) -> Mapping[str, Any]:
    import torch

    try:
        check_pickles(path)
        with open_file(path) as file, warnings.catch_warnings(action="ignore"):  # about old versions of pickle
            state = torch.load(file, map_location="cpu", weights_only=True)  # which by a path goes by its suffix
    except (pickle.UnpicklingError, EOFError) as why:
        raise ValueError("no state dict but text" if is_text else _REFUSED) from why
    if not isinstance(state, dict):
        raise TypeError(f"{path.name} holds a {type(state).__name__}, expected a state dict")
    return state
