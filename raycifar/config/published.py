"""torchvision's labelled data sets as records: what `data.name = "torchvision/NAME"` may name, and how each is split.

Left out are those that torchvision cannot fetch by itself (ImageNet, StanfordCars, FER2013), those that need further
packages (PCAM), and those with more images than one file should hold (Places365, iNaturalist).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raycifar.config.datasets import MNIST_BORDER, Border, Facts

PREFIX = "torchvision/"
ORIGIN = "as torchvision has it"  # by whatever way its files came
BUILT_IN_AS = {f"{PREFIX}CIFAR10": "cifar10", f"{PREFIX}FashionMNIST": "fashion_mnist"}
_Splits = Mapping[str, Mapping[str, Any]]  # ours: the arguments of torchvision's class; "": the test is cut from it
_FLAG: _Splits = {"train": {"train": True}, "test": {"train": False}}
_TWO: _Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: _Splits = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
_WHOLE: _Splits = {"": {}}
_EMNIST: _Splits = {split: {"split": "balanced", **arguments} for split, arguments in _FLAG.items()}
_COUNTRIES: _Splits = {**_THREE, "val": {"split": "valid"}}


@dataclass(frozen=True, slots=True)
class Published:
    """A data set of torchvision: its counts as they were published, and where its files lie."""

    title: str
    classes: int
    images: tuple[int, ...]  # of each split, in the order of `splits`
    side: int | None  # in pixels, that is stored unless the sweep file says otherwise; None: photographs of any size
    splits: _Splits
    places: tuple[str, ...]  # files and folders that torchvision makes in its folder
    mirror: bool = True  # whether a mirrored image keeps its label
    border: Border | None = None  # that is stored around each image
    outdated: tuple[str, ...] = ()  # an older torchvision's folders, read in place of what is fetched


def _mnist(
    folder: str, images: tuple[int, int], title: str = "", classes: int = 10, splits: _Splits = _FLAG
) -> Published:
    """A data set that torchvision's MNIST class reads: from `raw`, unless a folder `processed` is there."""
    known = Published(title or folder, classes, images, 32, splits, (folder,), mirror=False)
    return replace(known, border=MNIST_BORDER, outdated=(f"{folder}/processed",))


PUBLISHED: dict[str, Published] = {
    PREFIX + name: known
    for name, known in {
        "CIFAR100": Published("CIFAR-100", 100, (50_000, 10_000), 32, _FLAG, ("cifar-100-python",)),
        "Caltech101": Published("Caltech 101", 101, (8_677,), None, _WHOLE, ("caltech101",)),
        "Caltech256": Published("Caltech 256", 257, (30_607,), None, _WHOLE, ("caltech256",)),
        "Country211": Published("Country211", 211, (31_650, 10_550, 21_100), None, _COUNTRIES, ("country211",)),
        "DTD": Published("Describable Textures", 47, (1_880, 1_880, 1_880), None, _THREE, ("dtd",)),
        "EMNIST": _mnist("EMNIST", (112_800, 18_800), "EMNIST, balanced", 47, _EMNIST),
        "EuroSAT": Published("EuroSAT", 10, (27_000,), 64, _WHOLE, ("eurosat",)),
        "FGVCAircraft": Published("FGVC Aircraft", 100, (3_334, 3_333, 3_333), None, _THREE, ("fgvc-aircraft-2013b",)),
        "Flowers102": Published("Flowers 102", 102, (1_020, 1_020, 6_149), None, _THREE, ("flowers-102",)),
        "Food101": Published("Food-101", 101, (75_750, 25_250), None, _TWO, ("food-101",)),
        "GTSRB": Published("GTSRB", 43, (26_640, 12_630), 32, _TWO, ("gtsrb",), mirror=False),
        "Imagenette": Published(
            "Imagenette",
            10,
            (9_469, 3_925),
            None,
            {"train": {"split": "train"}, "test": {"split": "val"}},  # it has no test split
            ("imagenette2",),
        ),
        "KMNIST": _mnist("KMNIST", (60_000, 10_000)),
        "MNIST": _mnist("MNIST", (60_000, 10_000)),
        "OxfordIIITPet": Published(
            "Oxford-IIIT Pet",
            37,
            (3_680, 3_669),
            None,
            {"train": {"split": "trainval"}, "test": {"split": "test"}},
            ("oxford-iiit-pet",),
        ),
        "QMNIST": _mnist("QMNIST", (60_000, 60_000)),
        "RenderedSST2": Published("Rendered SST2", 2, (6_920, 872, 1_821), None, _THREE, ("rendered-sst2",), False),
        "SEMEION": Published("Semeion", 10, (1_593,), 16, _WHOLE, ("semeion.data",), mirror=False),
        "STL10": Published("STL-10", 10, (5_000, 8_000), 96, _TWO, ("stl10_binary",)),
        "SUN397": Published("SUN397", 397, (108_754,), None, _WHOLE, ("SUN397",)),
        "SVHN": Published("SVHN", 10, (73_257, 26_032), 32, _TWO, ("train_32x32.mat", "test_32x32.mat"), mirror=False),
        "USPS": Published("USPS", 10, (7_291, 2_007), 16, _FLAG, ("usps.bz2", "usps.t.bz2"), mirror=False),
    }.items()
}


def expected_facts(name: str, side: int, test: float) -> Facts:
    """What is known of a data set of PUBLISHED before it has been fetched: for a plan, as the digest "" says.

    `side` is what is stored, `test` the share that is cut where it has no test split.
    """
    known = PUBLISHED[name]
    images = dict(zip(known.splits, known.images, strict=True))
    whole = images.pop("", 0)
    if whole:
        images = {"train": whole - round(test * whole), "test": round(test * whole)}
    return Facts(
        name=name,
        title=known.title,
        classes=tuple(str(number) for number in range(known.classes)),
        train=_evenly(images["train"], known.classes),
        val=_evenly(images["val"], known.classes) if "val" in images else (),
        test=_evenly(images["test"], known.classes),
        side=side,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        mirror=known.mirror,
        origin=ORIGIN,
    )


def _evenly(images: int, classes: int) -> tuple[int, ...]:
    each, more = divmod(images, classes)
    return tuple(each + (label < more) for label in range(classes))
