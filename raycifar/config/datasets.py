"""Data sets as records: what other packages need to know of one. The package `data` fetches and reads their files.

`BUILT_IN` names the data sets that `data.name` of a sweep file may name. What is known of other data is known once it
has been read: its `Facts` lie in the header of the file that trials read, and in the record of each sweep.
"""

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Images = Annotated[int, Field(ge=0, le=1_000_000_000)]
_ByClass = Annotated[tuple[_Images, ...], Field(strict=False, max_length=1_000)]
_ByFold = Annotated[tuple[_Images, ...], Field(strict=False, max_length=1_000)]
_Channels = Annotated[tuple[float, float, float], Field(strict=False)]


class Facts(BaseModel):
    """What is known of labelled RGB images of one size, in a training and a test split.

    It is plain values, for it travels as JSON; keys of a newer version are ignored.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    name: _Name  # as a sweep file names it
    title: _Name  # as texts name it
    classes: Annotated[tuple[_Name, ...], Field(strict=False, min_length=2, max_length=1_000)]  # in the labels' order
    train: _ByClass  # how many images there are of each class, by split
    test: _ByClass
    val: _ByClass = ()  # where the data set brings its own validation split
    side: Annotated[int, Field(ge=1, le=4_096)]  # in pixels; images are square
    mean: _Channels  # of the training images by channel, RGB in 0..1
    std: _Channels
    mirror: bool  # whether a mirrored image keeps its label
    grouped: bool = False  # whether images belong to groups, such as patients, that no two splits share
    groups: _Images = 0  # how many
    folds: _ByFold = ()  # images of each fold of whole groups that training images were dealt into, to hold some out
    near: _Images = 0  # test images nearly equal to a training or validation image (64-bit difference hash)
    skipped: _Images = 0  # files that could not be read, and were left out as the sweep file asks
    dropped: _Images = 0  # images left out because others are equal pixel by pixel
    made: str = ""  # how splits came about that were not given, and what was left out
    digest: str = ""  # the SHA-256 in the metadata of the file that trials read, once that is known
    licence: str = ""  # "none": published without one; "": not known
    origin: str = ""  # who published it, and where it was read from

    @model_validator(mode="after")
    def _counts_are_by_class(self) -> "Facts":
        for split in (self.train, self.test, *([self.val] if self.val else [])):
            if len(split) != len(self.classes):
                raise ValueError(f"{len(split)} numbers of images for {len(self.classes)} classes")
        return self

    @property
    def train_images(self) -> int:
        return sum(self.train)

    @property
    def test_images(self) -> int:
        return sum(self.test)

    @property
    def is_balanced(self) -> bool:
        """Whether every class has as many images, split by split."""
        return all(len(set(split)) <= 1 for split in (self.train, self.test, self.val))

    @property
    def shape(self) -> tuple[int, int, int]:
        """An image's shape: channels, height, width."""
        return 3, self.side, self.side

    @property
    def file_name(self) -> str:
        """Of the cached file that trials read."""
        return f"{self.name}.safetensors" if self.name in BUILT_IN else f"data-{self.digest[:16]}.safetensors"


CIFAR10 = Facts(
    name="cifar10",
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train=(5_000,) * 10,
    test=(1_000,) * 10,
    side=32,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    mirror=True,
    licence="none",
    origin="Krizhevsky, 2009",
)
FASHION_MNIST = Facts(
    name="fashion_mnist",
    title="Fashion-MNIST",
    classes=(
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    train=(6_000,) * 10,
    test=(1_000,) * 10,
    side=32,  # with the border of BORDERS
    mean=(0.2860,) * 3,  # of the 28 x 28 pixels, as published
    std=(0.3530,) * 3,
    mirror=True,
    licence="MIT",
    origin="Xiao, Rasul & Vollgraf, 2017",
)
BUILT_IN = {facts.name: facts for facts in (CIFAR10, FASHION_MNIST)}


class Border(NamedTuple):
    """Black pixels that are stored around each image of a data set."""

    inner: int  # pixels a side of an image as it was published
    width: int  # pixels of the border on each side


MNIST_BORDER = Border(28, 2)
# Of what is built in. No field of `Facts`, so that it holds for the records of earlier sweeps, too.
BORDERS = {FASHION_MNIST.name: MNIST_BORDER}
