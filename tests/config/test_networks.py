"""What a sweep file may say of a network, before PyTorch is imported."""

import pytest
from pydantic import ValidationError

from raycifar.config.architectures import blocks_below
from raycifar.config.settings import Model


@pytest.mark.parametrize(
    ("part", "below"), [("all", 0), ("block1", 0), ("block3", 2), ("last2", 3), ("last5", 0), ("head", 5)]
)
def test_a_part_leaves_the_blocks_below_it_as_they_are(part, below):
    assert blocks_below(part, 5) == below


WRONG = {
    "another library": ({"name": "keras/resnet50"}, "is unknown; known here: vgg16, .*--list-models"),
    "a path in it": ({"name": "timm/../resnet"}, "is unknown"),
    "a misspelt one": ({"name": "vgg12"}, "is unknown, did you mean 'vgg1"),
    "a block too many": ({"train": "block6"}, "train = 'block6': the network has 5 blocks: expected 'all', 'block2'"),
    "no part": ({"name": "timm/resnet18", "train": "blok2"}, "String should match pattern"),
    "two sizes": ({"side": 64, "upsample": 2}, "side = 64 and upsample = 2 exclude each other"),
    "a norm put in": ({"name": "torchvision/resnet18", "batch_norm": True}, "batch_norm = true is an option of VGG"),
}


@pytest.mark.parametrize("settings", WRONG)
def test_what_no_network_has_is_refused(settings):
    given, why = WRONG[settings]
    with pytest.raises(ValidationError, match=why):
        Model(weights="random", **given)


def test_a_smaller_side_than_the_images_is_refused(make_trial):
    with pytest.raises(ValidationError, match=r"model\.side = 16: the images have 32 pixels a side"):
        make_trial(model={"weights": "random", "side": 16})
    assert make_trial(model={"weights": "random", "side": 64}).model.sees(32) == 64


def test_a_new_setting_leaves_fingerprints_as_they_were(make_trial):
    plain = make_trial(model={"weights": "random"})
    assert make_trial(model={"weights": "random", "side": 0}).fingerprint() == plain.fingerprint()
    assert make_trial(model={"weights": "random", "side": 64}).fingerprint() != plain.fingerprint()
