"""One sample of a search: trained and validated, never tested, for no test image is ever read here."""

from collections.abc import Iterator
from pathlib import Path

import torch

from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import load_training
from raycifar.storage.folders import TrialFolder
from raycifar.storage.records import EpochRecord, History
from raycifar.training.loop import TrainState, fit
from raycifar.training.precision import require_native
from raycifar.training.trial import Assets, Place, network, set_up_torch


def sample_epochs(spec: TrialSpec, folder: Path, assets: Assets, place: Place) -> Iterator[EpochRecord]:
    """Train the sample from its start, yielding each epoch once it is in the folder's history.json.

    Nothing is kept to resume from: a sample is short, and one that was interrupted starts over.
    Raises NonFiniteLossError and PrecisionError.
    """
    trial, history = TrialFolder(folder), History()
    set_up_torch(spec, place)
    require_native(spec, torch.device(place.device))
    data = load_training(assets.data, spec.own_data(), place.device, place.holds(spec.image_bytes))
    state = TrainState(network(spec, assets, data.train), spec, place.device)
    for record in fit(state, data.train, data.val, spec):
        history.epochs.append(record)
        trial.write_history(history)
        yield record
