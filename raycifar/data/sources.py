"""Where a trial's images come from: by the settings of its data, the file that trials read and what is known of it.

A data set that is built in needs its `Facts` in config/datasets.py, and a function in FETCH. What is known of any other
lies in the metadata of the file itself, under "facts".
"""

from collections.abc import Callable
from pathlib import Path

from raycifar.config.data import Data
from raycifar.config.datasets import Facts
from raycifar.data.cifar10 import fetch_cifar10
from raycifar.data.fashion_mnist import fetch_fashion_mnist
from raycifar.data.given import fetch_given
from raycifar.data.own.images import facts_in, fetch_own
from raycifar.data.published import facts_without_fetching, fetch_published
from raycifar.storage.asset_cache import AssetError, Get, cached_path, obtain

FETCH: dict[str, Callable[[Path | None, Get], Path]] = {
    "cifar10": fetch_cifar10,
    "fashion_mnist": fetch_fashion_mnist,
}


def fetch_data(spec: Data, named: Path | None = None, get: Get = obtain) -> Path:
    """Path of the safetensors file with the images that `spec` names, fetched if the cache has no sound copy.

    It holds train_images and test_images, uint8 RGB (N, 3, side, side), and train_labels and test_labels, int64 (N,).
    `named` is what the user says to read instead of any other source. With `get=examine` nothing is written of what is
    built in, only that is read and verified; other images are known once they are prepared, so the cache gets their
    file in any case. Raises AssetError.
    """
    if spec.is_built_in:
        return FETCH[spec.name](named, get)
    if named is not None and not spec.is_published:
        key, value = ("source", spec.source) if spec.source else ("path", spec.path)
        raise AssetError(f"--data {named}: the sweep reads data.{key} = {value!r}: leave one of them out")
    if (facts := spec.facts_if_known) and (ready := cached_path(facts.file_name)).is_file():
        return ready  # which this call has made, or looked at, already
    if spec.is_published:
        return fetch_published(spec, named)
    return fetch_given(spec.source) if spec.source else fetch_own(spec)


def known_facts(spec: Data, named: Path | None = None, fetch: bool = True) -> Facts:
    """What is known of the images that `spec` names, without fetching what is built in.

    Without `fetch` no other data set is fetched either: what a plan needs of it is as published. Raises AssetError.
    """
    if spec.is_published and named is None and not fetch:
        return facts_without_fetching(spec)
    return spec.facts_if_known or facts_of(fetch_data(spec, named), spec)


def facts_of(path: Path, spec: Data) -> Facts:
    """What is known of the images in the cached file `path`, which `spec` names. Raises OSError or ValueError."""
    if spec.is_built_in:
        return spec.facts
    title = {} if spec.source else {"title": spec.own_name}
    return facts_in(path).model_copy(update={"name": spec.facts_name, **title})
