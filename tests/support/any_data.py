"""Results on data unlike CIFAR-10: SYNTHETIC predictions on the classes, sizes and groups that a test asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raycifar.analysis.predictions import Predictions, read_predictions
from raycifar.analysis.results import Results, read_results
from raycifar.config.datasets import CIFAR10
from raycifar.config.sweep import SweepSpec
from raycifar.storage.folders import SweepFolder
from tests.support.sweep_folders import write_sweep


def write_any(path: Path, counts: Sequence[int], arms: Mapping[str, tuple[int, int]], **facts: Any) -> SweepFolder:
    """A finished sweep on so many test images of each class, with made-up predictions.

    Some images of each class are right, the more the further back the class; the others are taken for the next class.
    Where `facts` say that images are grouped, ten in a row are a group.
    """
    folder = write_sweep(path, arms)
    names = [f"class {i}" for i in range(len(counts))]
    known = CIFAR10.model_copy(
        update={"name": "leaves", "title": "leaves", "classes": tuple(names), "train": (500,) * len(names)}
        | {"test": tuple(counts), "digest": "0" * 64, **facts}
    )
    record = folder.record()
    assert record is not None
    folder.write_record(replace(record, facts=known.model_dump(mode="json"), data=known.digest))
    for spec in SweepSpec.model_validate(record.spec).trials:
        _predict(folder, spec.name, np.repeat(np.arange(len(counts)), counts), len(counts), known.grouped, known.near)
    return folder


def _predict(folder: SweepFolder, name: str, labels: np.ndarray, classes: int, grouped: bool, near: int) -> None:
    trial, rng = folder.trial(name), np.random.default_rng(sum(map(ord, name)))
    summary, places = trial.summary(), np.arange(len(labels))
    assert summary is not None
    right = rng.random(len(labels)) < 0.5 + 0.4 * labels / classes
    said = np.where(right, labels, (labels + 1) % classes)
    logits = np.zeros((len(labels), classes), np.float32)
    logits[places, said] = 3
    arrays = {"groups": places // 10} if grouped else {}
    arrays |= {"near": (places < near).astype(np.uint8)} if near else {}
    np.savez_compressed(trial.predictions, logits=logits, labels=labels, index=places, **arrays)
    trial.write_summary(replace(summary, test_accuracy=float((said == labels).mean()), test_images=len(labels)))


def read_any(folder: SweepFolder) -> tuple[Results, Predictions]:
    """The results with their predictions, which are all good."""
    results = read_results(folder.path)
    predictions = read_predictions(results)
    assert predictions.problems == []
    return results, predictions
