"""Networks of libraries through a whole trial: resumed to the bit, and exported as they predict."""

from types import SimpleNamespace

import pytest
import torch

from raycifar.export import largest_difference, write_onnx
from tests.support.killed_trials import left, run
from tests.support.libraries import SHUFFLENET, SMALL, library_network


def stop(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", [SHUFFLENET, *SMALL[1:]])
def test_a_trial_interrupted_after_an_epoch_ends_as_if_it_never_was(make_trial, tmp_path, name):
    spec = make_trial(
        model={"weights": "random", "name": name, "train": "last2"},
        data={"train_images": 20, "holdout_images": 10, "test_images": 10},
        batch_size=10,
    )
    run(spec, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "stopped", stop)
    run(spec, tmp_path / "stopped")
    assert left(tmp_path / "stopped") == left(tmp_path / "straight")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_onnx_predicts_what_pytorch_does(tmp_path, test_images, name):
    model = SimpleNamespace(network=library_network(name).eval())
    images = test_images.images[:5]
    with torch.no_grad():
        write_onnx(model, images, tmp_path / "model.onnx")
        assert largest_difference(model, tmp_path / "model.onnx", images) < 1e-3
