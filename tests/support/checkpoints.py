"""A small checkpoint; in a module of its own, which a test's subprocess imports too."""

import torch

from raycifar.storage.checkpoints import save_checkpoint
from raycifar.storage.records import History
from tests.support.records import epoch_record

STATE = {"model": {"weight": torch.arange(1000.0)}, "progress": {"epoch": 2}}


def save(folder, epochs):
    """Save STATE with a history of so many epochs; returns the checkpoint's path."""
    return save_checkpoint(folder, STATE, History([epoch_record(epoch) for epoch in range(1, epochs + 1)]))
