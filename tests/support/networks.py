"""Small networks that stand in for VGG16, where a test does not depend on which network trains."""

import torch
from torch import nn


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
