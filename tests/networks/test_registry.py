"""Networks by name: the VGGs, and what a builder has to say of any other."""

import pytest
import torch
from torch import nn

from raycifar.config.architectures import ARCHITECTURES
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model, Optimizer
from raycifar.config.sweep import TrialSpec
from raycifar.networks import registry
from raycifar.networks.cost import flops_an_image
from raycifar.networks.network import Trunk, belongs
from raycifar.networks.registry import build_network
from raycifar.training.optimizers import build_optimizer

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
CLASSES = CIFAR10.model_copy(
    update={"classes": tuple("abc"), "train": (9, 9, 9), "test": (3, 3, 3), "side": 64, "name": "leaves"}
)


@pytest.mark.parametrize(("name", "layers"), [("vgg11", 11), ("vgg13", 13), ("vgg16", 16), ("vgg19", 19)])
def test_a_vgg_has_as_many_layers_as_its_name_says_and_torchvisions_trunk(name, layers):
    import torchvision

    ours = build_network(Model(name=name, weights="random", hidden=(4096, 4096)), CIFAR10, 1)
    weights = [parameter for parameter in ours.parameters() if parameter.ndim > 1]
    assert len(weights) == layers
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)().features.state_dict()
    convolutions = [tuple(kernel.shape) for key, kernel in theirs.items() if key.endswith("weight")]
    assert [tuple(weight.shape) for weight in weights if weight.ndim == 4] == convolutions


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_arithmetic_counts_what_pytorch_counts(name):
    from torch.utils.flop_counter import FlopCounterMode

    trial = TrialSpec(name="a", arm="a", seed=1, epochs=1, model=Model(name=name, weights="random", train="block3"))
    network = build_network(trial.model, CIFAR10, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(IMAGES[:1])
    assert flops_an_image(trial)[0] == counter.get_total_flops()


@pytest.mark.parametrize("upsample", [1, 2])
def test_classes_and_side_are_those_of_the_data_set(upsample):
    network = build_network(Model(weights="random", upsample=upsample), CLASSES, 1).eval()
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert network(images).shape == (2, 3)
    assert network.images_at_once == 250 // upsample**2


def two_blocks(spec, facts):
    """A residual network of two blocks, each with a shortcut."""
    module = nn.Sequential()
    module.add_module("stem", nn.Conv2d(3, 8, 3, padding=1))
    module.add_module("one", nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)))
    module.add_module("pool", nn.AdaptiveAvgPool2d(1))
    blocks = (("stem",), ("one",))
    return Trunk(
        module=module, features=8, blocks=blocks, layers=blocks, mean=(0.5,) * 3, std=(0.25,) * 3,
        side=64, least=8, normed=False, load=module.load_state_dict,
    )  # fmt: skip


@pytest.fixture
def other_network(monkeypatch):
    """A network whose name no sweep file can have: `model_construct` checks none."""
    monkeypatch.setitem(registry.BUILDERS, "toys", two_blocks)
    return Model.model_construct(**Model(weights="random").model_dump() | {"name": "toys/two"})


def test_a_builder_is_found_by_what_stands_before_the_slash(other_network):
    assert build_network(other_network, CIFAR10, 1)(IMAGES).shape == (2, 10)


def test_what_trains_and_how_fast_goes_by_the_builders_blocks(other_network):
    network = build_network(other_network.model_copy(update={"train": "block2"}), CIFAR10, 1)
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {
        "features.stem.weight",
        "features.stem.bias",
    }
    network = build_network(other_network, CIFAR10, 1)
    optimizer = build_optimizer(network, Optimizer(layer_decay=0.5, head_lr_ratio=4.0))
    ratios = {id(p): group["lr_ratio"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: ratios[id(parameter)] for name, parameter in network.named_parameters()}
    assert {by_name[f"features.one.{i}.weight"] for i in (0, 1)} == {1.0}, "both layers of a block, and its shortcut"
    assert (by_name["features.stem.bias"], by_name["head.1.weight"]) == (0.5, 4.0)


def test_pixels_are_normalised_as_the_weights_expect_or_as_the_data_set_is(other_network, tmp_path):
    from safetensors.torch import save_file

    save_file({k: torch.ones_like(v) for k, v in two_blocks(None, None).module.state_dict().items()}, tmp_path / "w")
    pretrained = other_network.model_copy(update={"weights": "imagenet"})
    network = build_network(pretrained, CIFAR10, 1, tmp_path / "w")
    assert network.mean.flatten().tolist() == [0.5] * 3
    assert network.features.stem.weight.eq(1).all()
    assert build_network(other_network, CIFAR10, 1).pixels == (CIFAR10.mean, CIFAR10.std)


def test_a_parameter_belongs_to_the_module_of_its_whole_name():
    assert belongs("1.weight", ["1"])
    assert not belongs("10.weight", ["1"])
