"""VGG16 for CIFAR-10; and small networks that stand in for it, where a test does not depend on which network trains."""

import torch
from torch import nn

from raycifar.config.datasets import CIFAR10
from raycifar.networks.registry import build_network


def build_vgg16(spec, seed, imagenet=None):
    """The network that a trial on CIFAR-10 begins with."""
    return build_network(spec, CIFAR10, seed, imagenet)


class Small(nn.Module):
    """Convolution, batch norm, dropout: one of everything that keeps or draws something."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.convolution, self.norm = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8)
            self.dropout, self.head = nn.Dropout(0.2), nn.Linear(8, 10)

    def forward(self, images):
        features = self.norm(self.convolution(images / 255 - 0.5)).relu().mean((2, 3))
        return self.head(self.dropout(features))


class Floats(nn.Module):
    """A network of floats, here given uint8 images as a trial's networks are."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images.float() / 255)
