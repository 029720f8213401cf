"""Real images at tiny size: 320 training and 160 test images of CIFAR-10 (tests/data/README.md)."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from safetensors.torch import load_file

from raycifar.data import Split
from raycifar.spec import TrialSpec

SAMPLE = Path(__file__).parent / "data" / "cifar10_sample.safetensors"

torch.set_num_threads(1)  # pytest runs several processes
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def sample() -> dict[str, torch.Tensor]:
    return load_file(SAMPLE)


@pytest.fixture(scope="session")
def train_images(sample: dict[str, torch.Tensor]) -> Split:
    return Split(sample["train_images"], sample["train_labels"])


@pytest.fixture(scope="session")
def test_images(sample: dict[str, torch.Tensor]) -> Split:
    return Split(sample["test_images"], sample["test_labels"])


@pytest.fixture
def make_trial():
    """A small trial from the sample images; keyword arguments replace its settings."""

    def make(**settings: Any) -> TrialSpec:
        data = {"train_images": 40, "holdout_images": 20, "test_images": 20}
        base = {"name": "tiny", "arm": "tiny", "seed": 1, "epochs": 2, "batch_size": 16}
        return TrialSpec.model_validate({**base, "model": {"weights": "random"}, "data": data, **settings})

    return make
