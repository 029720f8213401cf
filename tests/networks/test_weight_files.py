"""Files of weights as others write them: their wrappings and kinds."""

import io
import tarfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from raycifar.networks import weights
from raycifar.networks.weight_files import read_trunk
from raycifar.storage.asset_cache import check_layout
from tests.support.asset_files import small_trunk

MARK = torch.arange(512.0)


def renamed(prefix):
    """A small trunk with another prefix than `features.`, and a classifier."""
    return small_trunk(prefix, **{"features.28.bias": MARK}) | {"classifier.0.bias": torch.zeros(4096)}


WRAPPINGS = {
    "DataParallel": renamed("module.features."),
    "PyTorch's ImageNet example": {"epoch": 3, "arch": "vgg16", "state_dict": renamed("features.module.")},
    "Lightning": {"epoch": 3, "state_dict": renamed("model.features."), "hyper_parameters": {"lr": 0.1}},
    "torch.compile": renamed("_orig_mod.features."),
    "compiled and parallel": renamed("module._orig_mod.features."),
    "a net in a net": {"model_state_dict": renamed("net.features.")},
    "a backbone": {"model": renamed("backbone.")},
    "the features alone": renamed(""),
    "two levels down": {"checkpoint": {"model": renamed("features.")}},
    "torchvision's beside another": renamed("features.") | {"ema": renamed("features.")},
}


@pytest.mark.parametrize("state", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_usual_wrappings_of_a_state_dict_are_read(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    found = read_trunk(tmp_path / "w.pth", weights.VGG16_LAYOUT)
    check_layout(found, weights.VGG16_LAYOUT)
    assert found.keys() == weights.VGG16_LAYOUT.keys()
    assert (found["features.28.bias"] == MARK.numpy()).all()


@pytest.mark.parametrize("name", ["w", "w.pth", "w.bin"])
def test_safetensors_are_known_by_their_content(tmp_path, name):
    save_file({"features.0.bias": MARK}, tmp_path / name)
    assert (read_trunk(tmp_path / name, ["features.0.bias"])["features.0.bias"] == MARK.numpy()).all()


def vgg(normalised, bias=True):
    """VGG16's first three convolutions, as torchvision numbers them."""
    layers = []
    for channels, pools in (((3, 64), False), ((64, 8), True), ((8, 4), False)):
        layers += [nn.Conv2d(*channels, 3, padding=1, bias=bias)]
        layers += [nn.BatchNorm2d(channels[1])] if normalised else []
        layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if pools else [])]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("prefix", ["features.", "module.features."])
@pytest.mark.parametrize("bias", [True, False], ids=["torchvision's", "our own"])
def test_batch_normalisation_is_folded_into_the_convolutions(tmp_path, prefix, bias):
    torch.manual_seed(1)
    theirs, ours = vgg(normalised=True, bias=bias), vgg(normalised=False)
    for norm in theirs[1], theirs[4], theirs[8]:
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data.uniform_(0.2, 2)
    torch.save({prefix + name: tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "w.pth")
    read = read_trunk(tmp_path / "w.pth", [f"features.{name}" for name in ours.state_dict()])
    ours.load_state_dict({name.removeprefix("features."): torch.from_numpy(value) for name, value in read.items()})
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(images), theirs(images))
    assert {value.dtype for value in read.values()} == {np.dtype("float32")}


def test_a_state_dict_is_known_by_its_content(tmp_path):
    ours = vgg(normalised=False).state_dict()
    torch.save({f"features.{name}": tensor for name, tensor in ours.items()}, tmp_path / "w.safetensors")
    read = read_trunk(tmp_path / "w.safetensors", [f"features.{name}" for name in ours])
    assert np.array_equal(read["features.0.weight"], ours["0.weight"].numpy())


def test_a_dictionary_that_holds_itself_ends_in_a_line(tmp_path):
    state = {f"part{number}": torch.zeros(1) for number in range(3)}
    state["inner"] = {"outer": state, "again": state}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"features\.0\.weight is missing: the file holds part0, part1"):
        read_trunk(tmp_path / "w.pth", weights.VGG16_LAYOUT)


def legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [save_file, torch.save, legacy], ids=["safetensors", "torch.save", "before 1.6"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(tmp_path, save, dtype):
    values = torch.linspace(-2, 2, 64).to(dtype)
    save({"features.0.bias": values}, tmp_path / "w")
    found = read_trunk(tmp_path / "w", ["features.0.bias"])["features.0.bias"]
    assert found.dtype == np.float32
    assert (found == values.float().numpy()).all()


def tar_of(*members):
    """As PyTorch before 0.1.10 wrote its files, or any other tar archive: only names are looked at."""

    def make(path):
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for name in members:
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())

    return make


def transposed(*axes):
    """Every kernel with its axes in another order, as other frameworks have them."""
    trunk = small_trunk()
    return {name: tensor.permute(*axes) if tensor.ndim == 4 else tensor for name, tensor in trunk.items()}


def saved(state):
    return lambda path: torch.save(state, path)


NOT_READ = {
    "PyTorch before 0.1.10": (
        tar_of("sys_info", "pickle", "tensors", "storages"),
        "before 0.1.10, which may hold c",
    ),
    "a tar archive": (tar_of("w.pth"), "a tar archive: unpack it first"),
    "a tar archive cut short": (lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(250)), "cut short or dam"),
    "channels last (HWIO)": (saved(transposed(2, 3, 1, 0)), r"weight is float32 \(3, 3, 3, 64\), expected"),
    "channels last (OHWI)": (saved(transposed(0, 2, 3, 1)), r"weight is float32 \(64, 3, 3, 64\), expected"),
    "float64": (saved({name: value.double() for name, value in small_trunk().items()}), "is float64"),
    "8-bit integers": (saved({name: value.char() for name, value in small_trunk().items()}), "is int8"),
    "a single tensor": (saved(MARK), "holds a Tensor, expected a state dict"),
}


@pytest.mark.parametrize(("make", "line"), NOT_READ.values(), ids=NOT_READ)
def test_what_cannot_be_read_is_called_what_it_is(tmp_path, make, line):
    make(tmp_path / "w.pth")
    with pytest.raises((ValueError, TypeError), match=line):
        check_layout(read_trunk(tmp_path / "w.pth", weights.VGG16_LAYOUT), weights.VGG16_LAYOUT)
