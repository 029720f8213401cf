"""The network of the interrupted trials: VGG16's kinds of layers, in a checkpoint of 20 kB.

Its layers and their names are in the recorded checkpoints, so they must not change.
"""

import torch
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """uint8 images (N, 3, 32, 32) -> logits (N, 10): two convolutions with batch norm, dropout, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.features = nn.Sequential(
                *(nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
                *(nn.Conv2d(8, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
            )
            self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 10))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images / 255 - 0.5).mean((2, 3)))
        return logits
