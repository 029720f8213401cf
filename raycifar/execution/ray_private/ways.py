"""Which way a process goes, Ray's own or one that starts less: the variables that say so, and what they change."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

RAYS_OWN_WAY = "RAYCIFAR_RAYS_OWN_WAY"  # set by hand: Ray's own classes do all that they can do
OWN_RAY = "RAYCIFAR_OWN_RAY"  # set for a Ray that this process has started: Ray's processes inherit its environment


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """The attributes of `owner` are these meanwhile."""
    before = {name: getattr(owner, name) for name in attributes}
    _set(owner, before | attributes)
    try:
        yield
    finally:
        _set(owner, before)


def _set(owner: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(owner, name, value)
