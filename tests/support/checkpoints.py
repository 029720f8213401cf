"""A small checkpoint; in a module of its own, which a test's subprocess imports too."""

from raycifar.storage.checkpoints import write_checkpoint
from raycifar.storage.records import History
from tests.support.records import epoch_record

STATE = bytes(range(256)) * 16


def write(folder, epochs):
    """Write a checkpoint of STATE with a history of so many epochs; returns its path."""
    return write_state(folder, STATE, History([epoch_record(epoch) for epoch in range(1, epochs + 1)]))


def write_state(folder, state, history):
    """Write a checkpoint whose state is these bytes; returns its path."""
    return write_checkpoint(folder, lambda file: file.write(state), history)
