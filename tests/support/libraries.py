"""Networks of libraries, as a trial has them."""

from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.networks.registry import build_network

SHUFFLENET = "torchvision/shufflenet_v2_x0_5"  # has what a ResNet18 has, in a thirtieth of its size
SMALL = ("torchvision/resnet18", "torchvision/squeezenet1_1", "timm/tf_efficientnet_lite0")


def library_network(name, side=64, facts=CIFAR10, seed=1, **settings):
    """The network with random weights."""
    return build_network(Model(name=name, weights="random", side=side, **settings), facts, seed)
