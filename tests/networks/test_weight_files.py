"""Files of weights as others write them: their wrappings and kinds."""

import pytest
import torch
from safetensors.numpy import save_file

from raycifar.networks import weights
from raycifar.networks.weight_files import read_trunk
from raycifar.storage.asset_cache import check_layout
from tests.support.asset_files import small_trunk

MARK = torch.arange(512.0)


def renamed(prefix):
    """A small trunk with another prefix than `features.`, and a classifier."""
    return small_trunk(prefix, **{"features.28.bias": MARK}) | {"classifier.0.bias": torch.zeros(4096)}


WRAPPINGS = {
    "DataParallel": renamed("module.features."),
    "PyTorch's ImageNet example": {"epoch": 3, "arch": "vgg16", "state_dict": renamed("features.module.")},
    "Lightning": {"epoch": 3, "state_dict": renamed("model.features."), "hyper_parameters": {"lr": 0.1}},
    "torch.compile": renamed("_orig_mod.features."),
    "compiled and parallel": renamed("module._orig_mod.features."),
    "a net in a net": {"model_state_dict": renamed("net.features.")},
    "a backbone": {"model": renamed("backbone.")},
    "the features alone": renamed(""),
    "two levels down": {"checkpoint": {"model": renamed("features.")}},
    "torchvision's beside another": renamed("features.") | {"ema": renamed("features.")},
}


@pytest.mark.parametrize("state", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_usual_wrappings_of_a_state_dict_are_read(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    found = read_trunk(tmp_path / "w.pth", weights.VGG16_LAYOUT)
    check_layout(found, weights.VGG16_LAYOUT)
    assert found.keys() == weights.VGG16_LAYOUT.keys()
    assert (found["features.28.bias"] == MARK.numpy()).all()


@pytest.mark.parametrize("name", ["w", "w.pth", "w.bin"])
def test_safetensors_are_known_by_their_content(tmp_path, name):
    save_file({"features.0.bias": MARK.numpy()}, tmp_path / name)
    assert (read_trunk(tmp_path / name, ["features.0.bias"])["features.0.bias"] == MARK.numpy()).all()


def test_a_dictionary_that_holds_itself_ends_in_a_line(tmp_path):
    state = {f"part{number}": torch.zeros(1) for number in range(3)}
    state["inner"] = {"outer": state, "again": state}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"features\.0\.weight is missing: the file holds part0, part1"):
        read_trunk(tmp_path / "w.pth", weights.VGG16_LAYOUT)
