"""Data sets as records: what other packages need to know of one. The package `data` fetches and reads their files."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataSet:
    """Labelled RGB images of one size, with an official training and test split."""

    title: str
    classes: tuple[str, ...]  # their names, in the order of the labels
    train_images: int
    test_images: int
    side: int  # in pixels; images are square
    mean: tuple[float, float, float]  # of the training images by channel, RGB in 0..1
    std: tuple[float, float, float]
    mirror: bool  # whether a mirrored image keeps its label

    @property
    def shape(self) -> tuple[int, int, int]:
        """An image's shape: channels, height, width."""
        return 3, self.side, self.side


CIFAR10 = DataSet(
    title="CIFAR-10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train_images=50_000,
    test_images=10_000,
    side=32,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    mirror=True,
)
