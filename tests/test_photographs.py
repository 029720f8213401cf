"""Networks with ImageNet weights on photographs: trained, loaded, asked about files of other sizes, exported.

The photographs are those that come with scikit-learn and Matplotlib.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import onnxruntime
import pytest
import sklearn
import torch
from PIL import Image
from safetensors.numpy import load_file
from torchvision import datasets

import raycifar
from raycifar import load_model
from raycifar.config.data import Data
from raycifar.config.datasets import CIFAR10
from raycifar.data.fashion_mnist import as_rgb
from raycifar.data.sources import fetch_data
from raycifar.export import export_model
from raycifar.trained_model import TrainedModel
from tests.support.published_folders import kmnist

PHOTOGRAPHS = {
    "china": Path(sklearn.__file__).parent / "datasets/images/china.jpg",
    "flower": Path(sklearn.__file__).parent / "datasets/images/flower.jpg",
    "person": Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg",
}
NETWORKS = {"vgg16": 0, "torchvision/squeezenet1_1": 64, "timm/tf_efficientnet_lite0": 64}  # the side that each sees


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder with 24 square parts of each photograph."""
    root = tmp_path_factory.mktemp("photographs") / "parts"
    for name, file in PHOTOGRAPHS.items():
        (root / name).mkdir(parents=True)
        with Image.open(file) as image:
            short = 3 * min(image.size) // 4
            places = np.random.default_rng(0).integers(0, np.array(image.size) - short, (24, 2))
            for number, (left, top) in enumerate(places):
                image.crop((left, top, left + short, top + short)).save(root / name / f"{number}.jpg")
    return root


def trained(parts, storage, name, side):
    trial = {"name": "a", "arm": "a", "seed": 1, "epochs": 2, "batch_size": 8, "precision": "fp32"}
    model = {"name": name, "weights": "imagenet", "side": side, "train": "head"}
    data = {"path": str(parts), "side": 32, "duplicates": "drop"}
    spec = raycifar.SweepSpec.model_validate({"name": "s", "trials": [trial | {"model": model, "data": data}]})
    return raycifar.run_sweep(spec, raycifar.Options(local=True, gpus=0), storage=storage).path


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.parametrize(("name", "side"), NETWORKS.items(), ids=NETWORKS)
def test_whole_photographs_are_told_apart_and_onnx_says_the_same(parts, tmp_path, name, side):
    sweep = trained(parts, tmp_path / "results", name, side)
    model = load_model(sweep)
    images = model.read(*PHOTOGRAPHS.values())
    assert images.shape == (3, 3, 32, 32)
    assert model.names(images) == list(PHOTOGRAPHS)
    export_model(sweep, tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits).softmax(1), model.predict(images), atol=1e-4, rtol=0)


def reader(make_trial):
    """A model that only reads."""
    return TrainedModel(None, make_trial(), None)


@pytest.mark.parametrize("limit", [None, 5_000, 89_478_485])
def test_pillows_own_limit_is_left_as_it_was(make_trial, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    (tmp_path / "x.jpg").write_bytes(b"no image")
    assert len(reader(make_trial).read(PHOTOGRAPHS["china"])) == 1
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match="cannot be read"):
        reader(make_trial).read(tmp_path / "x.jpg")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_limit_is_left_as_it_was_by_several_threads(make_trial):
    limit, read = Image.MAX_IMAGE_PIXELS, reader(make_trial).read
    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(read, 8 * [PHOTOGRAPHS["china"]]))) == 8
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_file_is_read_as_images_of_the_users_own_are(make_trial, tmp_path):
    clear = Image.new("RGBA", (300, 100), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    images = reader(make_trial).read(PHOTOGRAPHS["china"], tmp_path / "clear.png")
    assert (images.dtype, images.shape) == (torch.uint8, (2, 3, 32, 32))
    assert images[1].min() == 255


@pytest.mark.parametrize("side", [32, 48])
def test_a_published_test_image_of_28_pixels_is_read_as_it_is_stored(make_trial, tmp_path, cache, monkeypatch, side):
    for key, value in kmnist(tmp_path).items():
        monkeypatch.setattr(datasets.KMNIST, key, value)
    stored = load_file(fetch_data(Data(name="torchvision/KMNIST", side=side), tmp_path))["test_images"]
    trial = make_trial(batch_size=4, data={"name": "torchvision/KMNIST", "side": side})
    trial = trial.model_copy(update={"data": trial.data.with_facts(CIFAR10.model_copy(update={"side": side}))})
    for number, (image, _) in enumerate(datasets.KMNIST(tmp_path, train=False)):
        image.save(tmp_path / f"{number:02d}.png")
    assert np.array_equal(TrainedModel(None, trial, None).read(*sorted(tmp_path.glob("*.png"))), stored)


def test_an_image_of_fashion_mnist_is_read_as_it_is_stored(make_trial, tmp_path):
    grey = np.arange(28 * 28, dtype=np.uint8)
    Image.fromarray(grey.reshape(28, 28)).save(tmp_path / "shirt.png")
    read = TrainedModel(None, make_trial(data={"name": "fashion_mnist"}), None).read(tmp_path / "shirt.png")
    assert np.array_equal(read, as_rgb(grey))


@pytest.mark.assets
def test_the_test_images_of_fashion_mnist_are_read_as_they_are_stored(make_trial, tmp_path):
    stored = load_file(fetch_data(Data(name="fashion_mnist")))["test_images"][:20]
    for number, image in enumerate(stored):
        Image.fromarray(image[0, 2:30, 2:30]).save(tmp_path / f"{number:02d}.png")
    reads = TrainedModel(None, make_trial(data={"name": "fashion_mnist"}), None)
    assert np.array_equal(reads.read(*sorted(tmp_path.glob("*.png"))), stored)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_a_file_that_is_no_image_is_told_in_one_line(make_trial, tmp_path, content):
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.jpg: cannot be read as an image \(") as error:
        reader(make_trial).read(tmp_path / "x.jpg")
    assert "\n" not in str(error.value)
