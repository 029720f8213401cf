"""The whole batch at once against torchvision's operations, image by image."""

import pytest
import torch
from torchvision.transforms.v2 import TrivialAugmentWide

from raycifar.config.settings import Augmentation
from raycifar.data.augment import Augmenter, cut_out
from raycifar.data.trivialaugment import BLENDS, MOVES, OPERATIONS, STRENGTHS, Drawn, apply, draw

FILL = torch.tensor([125, 123, 114], dtype=torch.uint8).view(3, 1, 1)
NAMES = {name: name.title().replace("_", "") for name in OPERATIONS}  # torchvision's


EVERY = [(step, sign) for step in range(STRENGTHS) for sign in (-1, 1)]


def in_every_strength(name, images):
    """The images (B,) once for each strength and sign: (62 B,)."""
    steps, signs = torch.tensor(EVERY, dtype=torch.float32).repeat_interleave(len(images), 0).unbind(1)
    operation = torch.full((len(steps),), OPERATIONS.index(name))
    repeated = images.repeat(len(EVERY), 1, 1, 1)
    return apply(repeated, Drawn(operation, steps / (STRENGTHS - 1), signs), FILL).split(len(images))


def torchvisions(name, step, sign, images):
    theirs = TrivialAugmentWide(fill=FILL.flatten().tolist())
    strengths, signed = theirs._AUGMENTATION_SPACE[NAMES[name]]
    all_of = strengths(STRENGTHS, 32, 32)
    strength = 0.0 if all_of is None else round(float(all_of[step]), 4)  # its half of 32 pixels is 15.999999
    return theirs._apply_image_or_video_transform(
        images, NAMES[name], strength * (sign if signed else 1), interpolation=theirs.interpolation, fill=theirs._fill
    )


def test_the_operations_are_torchvisions():
    assert sorted(NAMES.values()) == sorted(TrivialAugmentWide._AUGMENTATION_SPACE)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_torchvisions_pixels_in_every_strength(train_images, name):
    images = train_images.images[:2]
    for (step, sign), ours in zip(EVERY, in_every_strength(name, images), strict=True):
        off = (ours.int() - torchvisions(name, step, sign, images).int()).abs()
        if name in (*MOVES, "solarize"):  # a pixel on the border between two answers may get either
            assert (off > 1).float().mean() < 0.01, (step, sign)
        else:
            assert off.max() <= (name in (*BLENDS, "auto_contrast")), (step, sign)
        if step == 0 and name not in ("solarize", "auto_contrast", "equalize"):
            assert ours.equal(images)


def test_every_image_gets_its_own_operation(train_images):
    images = train_images.images[:50]
    mixed = draw(50, torch.Generator().manual_seed(3))
    assert set(mixed.operation.tolist()) == set(range(14))
    for i, together in enumerate(apply(images, mixed, FILL)):
        alone = Drawn(mixed.operation[i : i + 1], mixed.strength[i : i + 1], mixed.sign[i : i + 1])
        assert together.equal(apply(images[i : i + 1], alone, FILL)[0]), OPERATIONS[mixed.operation[i]]


def test_operations_strengths_and_signs_are_equally_likely():
    many = draw(40_000, torch.Generator().manual_seed(3))
    for values, kinds in ((many.operation, 14), ((many.strength * 30).round(), 31), (many.sign, 2)):
        counts = values.unique(return_counts=True)[1].float()
        assert len(counts) == kinds
        assert (counts * kinds / 40_000 - 1).abs().max() < 0.12


def test_a_flat_image_stays_as_it_is_where_contrast_has_nothing_to_stretch():
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    for name in ("auto_contrast", "equalize"):
        assert in_every_strength(name, flat)[0].equal(flat)


def test_the_augmenter_applies_it_after_crop_and_flip(train_images):
    index, spec = torch.arange(50), Augmentation(crop=4, flip="alternating")
    cropped = Augmenter.of(train_images, spec, 1)
    both = Augmenter.of(train_images, spec.model_copy(update={"policy": "trivial"}), 1)
    generator = torch.Generator().manual_seed(5)
    expected = cropped(index, 1, generator)
    expected = apply(expected, draw(50, generator), both.fill)
    assert both(index, 1, torch.Generator().manual_seed(5)).equal(expected)


def test_cutout_paints_over_what_the_policy_made(train_images):
    index, spec = torch.arange(50), Augmentation(policy="trivial", cutout=8)
    without, painted = (Augmenter.of(train_images, s, 1) for s in (spec.model_copy(update={"cutout": 0}), spec))
    generator = torch.Generator().manual_seed(5)
    expected = cut_out(without(index, 1, generator), 8, painted.fill, generator)
    assert painted(index, 1, torch.Generator().manual_seed(5)).equal(expected)
