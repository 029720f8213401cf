import pytest
import torch
import torch.nn.functional as F

from raycifar.config.settings import Augmentation
from raycifar.data.augment import Augmenter, Mixer

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


CPU = torch.device("cpu")


def mixed(train, **settings):
    """The first 200 images, mixed, with their labels' shares."""
    mixer = Mixer.of(Augmentation(**settings), 10, 1, CPU)
    return mixer(train.images[:200], train.labels[:200], generator())


def own_shares(train, shares):
    """Each image's share of its own label, NaN where the image before it has the same one."""
    labels = train.labels[:200]
    own = shares.gather(1, labels[:, None])[:, 0]
    return own.where(labels != labels.roll(1), torch.nan)


def test_without_mixup_and_cutmix_nothing_is_mixed():
    assert Mixer.of(Augmentation(), 10, 1, CPU) is None
    assert Mixer.of(Augmentation(mixup=1.0, mix_probability=0.0), 10, 1, CPU) is None


def test_mixup_blends_each_image_with_the_one_before_by_its_share(train_images):
    images, shares = mixed(train_images, mixup=0.4)
    for i, share in enumerate(own_shares(train_images, shares)):
        if not share.isnan():
            expected = share * train_images.images[i].float() + (1 - share) * train_images.images[:200][i - 1].float()
            assert (images[i].float() - expected).abs().max() < 0.51, i


def test_cutmix_pastes_a_box_of_the_image_before_and_counts_its_pixels(train_images):
    images, shares = mixed(train_images, cutmix=1.0)
    own, before = train_images.images[:200], train_images.images[:200].roll(1, 0)
    pasted = (images != own).any(1)
    assert ((images == own) | (images == before)).all()
    for i, share in enumerate(own_shares(train_images, shares)):
        rows, columns = pasted[i].any(1).nonzero(), pasted[i].any(0).nonzero()
        if not share.isnan() and len(rows):
            area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert area / 1024 == pytest.approx(1 - share.item(), abs=1e-6), i


def test_a_cutmix_box_has_the_area_that_the_share_leaves(train_images):
    mixer = Mixer.of(Augmentation(cutmix=1.0), 10, 1, CPU)
    mixer.shares.fill_(0.75)
    _, shares = mixer(train_images.images[:200], train_images.labels[:200], generator())
    own = own_shares(train_images, shares)
    assert own[~own.isnan()].min() == 0.75  # a box at the border loses what lies outside


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_labels_are_shares_of_one(train_images, kind):
    _, shares = mixed(train_images, **{kind: 1.0})
    assert torch.allclose(shares.sum(1), torch.ones(200))
    assert (shares >= 0).all()
    assert ((shares > 0).sum(1) <= 2).all()


def test_the_shares_are_drawn_from_the_beta_distribution():
    for alpha in (0.2, 1.0):
        shares = Mixer.of(Augmentation(mixup=alpha), 10, 1, CPU).shares
        assert shares.mean() == pytest.approx(0.5, abs=0.01)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)


def test_about_as_many_images_are_mixed_as_the_probability_says(train_images):
    images, _ = mixed(train_images, mixup=1.0, mix_probability=0.25)
    changed = (images != train_images.images[:200]).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35


def test_cutout_paints_the_mean_colour_of_the_training_images(train_images):
    fill = Augmenter.of(train_images, Augmentation(cutout=8), 1).fill
    assert fill.flatten().tolist() == train_images.images.float().mean((0, 2, 3)).round().tolist()
