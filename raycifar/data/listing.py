"""What `data.name` may name, for people: how many images, of how many classes, how large, and where they come from."""

from collections.abc import Iterator

from raycifar.config.data import OWN_SIDE, Data
from raycifar.config.datasets import BUILT_IN, Facts
from raycifar.config.published import PUBLISHED, Published
from raycifar.data.own.images import index_of, ready_file
from raycifar.data.published import folder_of
from raycifar.storage.asset_cache import AssetError, cached_path, check_cache

Row = tuple[str, str, str, str, str]  # name, images, classes, side, where from


def listed_data(part: str = "") -> Iterator[Row]:
    """The data sets whose names have this part. Nothing is fetched, and no image is looked at. Raises AssetError."""
    check_cache()
    try:
        yield from (_built_in(facts) for name, facts in BUILT_IN.items() if part in name)
        yield from (_of_torchvision(name, known) for name, known in PUBLISHED.items() if part in name)
    except OSError as why:
        raise AssetError(
            f"the cache {cached_path('')} cannot be read ({why.strerror}): name another folder in RAYCIFAR_CACHE"
        ) from None


def _built_in(facts: Facts) -> Row:
    images = f"{facts.train_images:,} + {facts.test_images:,}"
    is_here = cached_path(facts.file_name).is_file()
    return _row(facts.name, images, len(facts.classes), facts.side, is_here, "download or package")


def _of_torchvision(name: str, known: Published) -> Row:
    images = " + ".join(f"{count:,}" for count in known.images)
    if "" in known.splits:
        images += ", no test split"
    is_here = folder_of(name).is_dir() or ready_file(index_of(Data(name=name), name), name) is not None
    return _row(name, images, known.classes, known.side or OWN_SIDE, is_here, "download")


def _row(name: str, images: str, classes: int, side: int, is_here: bool, source: str) -> Row:
    return name, images, f"{classes} classes", f"{side} px", "here" if is_here else source
