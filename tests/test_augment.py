import pytest
import torch
import torch.nn.functional as F

from raycifar.augment import Augmenter
from raycifar.spec import Augmentation

INDEX = torch.tensor([7, 0, 19, 5, 3, 11])


def generator(seed=5):
    return torch.Generator().manual_seed(seed)


def naive(train, augment, spec, epoch, draws):
    """The same draws, applied image by image and pixel by pixel with slices."""
    padded = F.pad(train.images.float(), (spec.crop,) * 4, mode="reflect").byte()
    out = []
    for position, i in enumerate(INDEX.tolist()):
        row, column = draws["crop"][:, position].tolist() if spec.crop else (0, 0)
        image = padded[i, :, row : row + 32, column : column + 32].clone()
        if spec.flip == "alternating" and bool(augment.first_mirrored[i]) != (epoch % 2 == 0):
            image = image[:, :, torch.arange(31, -1, -1)]
        if spec.flip == "random" and draws["flip"][position] < 0.5:
            image = image[:, :, torch.arange(31, -1, -1)]
        if spec.cutout:
            y, x = draws["cutout"][:, position, 0].tolist()
            half, rest = spec.cutout // 2, spec.cutout - spec.cutout // 2
            image[:, max(0, y - half) : y + rest, max(0, x - half) : x + rest] = augment.fill
        out.append(image)
    return torch.stack(out)


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize("flip", ["none", "random", "alternating"])
@pytest.mark.parametrize("cutout", [0, 7, 8])
def test_a_batch_equals_a_loop_over_its_images(train_images, epoch, crop, flip, cutout):
    spec = Augmentation(crop=crop, flip=flip, cutout=cutout)
    augment = Augmenter.of(train_images, spec, seed=1)
    draw, b = generator(), len(INDEX)
    draws = {"crop": torch.randint(2 * crop + 1, (2, b), generator=draw) if crop else None}
    draws["flip"] = torch.rand(b, generator=draw) if flip == "random" else None
    draws["cutout"] = torch.randint(32, (2, b, 1), generator=draw) if cutout else None
    expected = naive(train_images, augment, spec, epoch, draws)
    assert augment(INDEX, epoch, generator()).equal(expected)


def test_the_alternating_flip_shows_both_sides_of_every_image_in_two_epochs(train_images):
    augment = Augmenter.of(train_images, Augmentation(flip="alternating"), seed=1)
    odd, even, third = (augment(INDEX, epoch, generator()) for epoch in (1, 2, 3))
    assert odd.equal(even.flip(-1))
    assert odd.equal(third)
    assert 0 < augment.first_mirrored.sum() < len(train_images)


def test_no_augmentation_is_the_image_itself(train_images):
    assert Augmenter.of(train_images, Augmentation(), 1)(INDEX, 1, generator()).equal(train_images.images[INDEX])


def test_seeds_mirror_different_images_first(train_images):
    flips = [Augmenter.of(train_images, Augmentation(flip="alternating"), seed).first_mirrored for seed in (1, 2)]
    assert not flips[0].equal(flips[1])
