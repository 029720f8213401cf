"""Networks of torchvision and timm as trunks: what is cut off, what the blocks are, what is refused."""

import sys

import pytest
import torch
import torchvision
from torch import nn

from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model, Optimizer
from raycifar.networks.convolution import Convolution
from raycifar.networks.inspection import check_network, inspected
from raycifar.networks.libraries import of_torchvision
from raycifar.networks.registry import make_trunk
from raycifar.training.optimizers import build_optimizer
from tests.support.libraries import SMALL, library_network

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
FEATURES = dict(zip(SMALL, (512, 512, 1280), strict=True))


def trunk_on_meta(name):
    with torch.device("meta"):
        return make_trunk(Model(name=name, weights="random"), CIFAR10)


@pytest.mark.parametrize("name", SMALL)
def test_one_wrapper_enlarges_and_classifies(name):
    network = library_network(name).eval()
    assert network(IMAGES).shape == (2, 10)
    seen = []
    network.features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    network(IMAGES)
    assert seen == [(2, 3, 64, 64)]
    assert network.head[-1].in_features == FEATURES[name]


ONE_OF_EACH = {
    "alexnet": 256, "convnext_tiny": 768, "densenet121": 1024, "efficientnet_b0": 1280, "googlenet": 1024,
    "inception_v3": 2048, "maxvit_t": 512, "mnasnet0_5": 1280, "mobilenet_v3_small": 576, "regnet_y_400mf": 440,
    "resnet18": 512, "resnext50_32x4d": 2048, "shufflenet_v2_x0_5": 1024, "squeezenet1_0": 512, "swin_t": 768,
    "vgg11_bn": 512, "vit_b_32": 768, "wide_resnet50_2": 2048,
}  # fmt: skip


def test_every_network_of_torchvision_belongs_to_a_family_and_every_family_is_tested():
    every = torchvision.models.list_models(module=torchvision.models)
    assert of_torchvision.names() == every
    assert all(any(name.startswith(start) for name in ONE_OF_EACH) for start in of_torchvision.FAMILIES)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_family_loses_its_head_and_no_other_parameter(name):
    trunk = trunk_on_meta(f"torchvision/{name}")
    assert inspected(f"torchvision/{name}", trunk.least).features == trunk.features == ONE_OF_EACH[name]
    names = [parameter for block in trunk.blocks for parameter in block]
    assert sorted(names) == sorted(name for name, _ in trunk.module.named_parameters())
    assert len(trunk.blocks) >= 5


def test_a_resnet_has_a_stem_and_four_stages():
    blocks = trunk_on_meta("torchvision/resnet18").blocks
    assert [sorted({name.partition(".")[0] for name in block}) for block in blocks] == [
        ["bn1", "conv1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "trained"), [("last2", {"layer3", "layer4"}), ("block5", {"layer4"}), ("head", set())]
)
def test_the_last_blocks_train_alone(train, trained):
    network = library_network("torchvision/resnet18", train=train)
    found = {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad and "features" in name}
    assert found == trained


@pytest.mark.parametrize("name", SMALL)
def test_layer_decay_goes_by_the_builders_layers(name):
    network = library_network(name)
    optimizer = build_optimizer(network, Optimizer(layer_decay=0.5, head_lr_ratio=4.0))
    ratios = {id(p): group["lr_ratio"] for group in optimizer.param_groups for p in group["params"]}
    in_order = [ratios[id(parameter)] for parameter in network.parameters()]
    assert in_order[0] == 0.5 ** (len(network.layers) - 1)
    assert in_order[-3:] == [1.0, 4.0, 4.0]


def test_quick_convolutions_are_adopted_where_they_compute_the_same():
    torch.manual_seed(1)
    plain = torchvision.models.resnet18().eval()
    adopted = trunk_on_meta("torchvision/resnet18").module
    kinds = [layer for layer in adopted.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(isinstance(layer, Convolution) for layer in kinds) == 16
    assert all(layer.kernel_size == (3, 3) for layer in kinds if isinstance(layer, Convolution))
    network = library_network("torchvision/resnet18", side=0).eval()
    plain.fc = nn.Identity()
    plain.load_state_dict(network.features.state_dict())
    images = torch.randn(4, 3, 32, 32)
    for one in (plain, network.features):
        one(images).square().sum().backward()
    theirs = dict(plain.named_parameters())
    for name, parameter in network.features.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "published"), [("resnet18", 1.814), ("densenet121", 2.834), ("vit_b_16", 17.564)])
def test_operations_are_those_that_the_library_publishes(name, published):
    assert inspected(f"torchvision/{name}", 224).flops == pytest.approx(2e9 * published, rel=0.002)


def refused(make_trial, **settings):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller compares the text
        check_network(make_trial(model={"weights": "random", **settings.pop("model")}, **settings))
    return str(caught.value)


def test_what_does_not_suit_is_refused_in_one_line(make_trial):
    assert refused(make_trial, model={"name": "torchvision/resnet19"}) == (
        'model.name = "torchvision/resnet19": unknown; did you mean torchvision/resnet18? '
        "raycifar lists them with --list-models"
    )
    assert "sees 32: set model.side = 64" in refused(make_trial, model={"name": "torchvision/alexnet"})
    assert "sees 64: set model.side = 224" in refused(make_trial, model={"name": "torchvision/vit_b_16", "side": 64})
    resnet = {"name": "torchvision/resnet18", "train": "block9"}
    assert "'block9': the network has 5 blocks: expected" in refused(make_trial, model=resnet)
    muon = {"optimizer": {"name": "muon"}}
    assert 'set "sgd"' in refused(make_trial, model={"name": "torchvision/squeezenet1_1"}, **muon)
    check_network(make_trial(model={"weights": "random", "name": "torchvision/resnet18"}, **muon))


def test_without_timm_one_line_says_how_to_have_it(make_trial, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    inspected.cache_clear()
    assert refused(make_trial, model={"name": SMALL[2]}).endswith('need timm: pip install "raycifar[timm]"')
