"""Data sets of torchvision in its own formats, made of the sample's real images and served from this machine."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from raycifar.config.data import Data
from raycifar.config.published import PREFIX
from tests.support.paths import SAMPLE

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def spec(name, **settings):
    return Data.model_validate({"name": f"{PREFIX}{name}", **settings})


@pytest.fixture(autouse=True)
def images_are_opened_here_alone(monkeypatch):
    """No class of torchvision opens an image: data/own/decode.py does, from memory, with limits and in parallel."""
    before = Image.open

    def opened(file, *arguments, **options):
        assert isinstance(file, io.BytesIO), file
        return before(file, *arguments, **options)

    monkeypatch.setattr(Image, "open", opened)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def cifar100(folder: Path, address: str) -> dict[str, object]:
    """Write CIFAR-100's archive, with ten classes; returns what torchvision's class then has to know of it."""
    sample = load_file(SAMPLE)
    batches = {
        split: {"data": sample[f"{split}_images"].reshape(-1, 3072), "fine_labels": sample[f"{split}_labels"].tolist()}
        for split in ("train", "test")
    }
    contents = {name: pickle.dumps(batch, protocol=2) for name, batch in batches.items()}
    contents["meta"] = pickle.dumps({"fine_label_names": list(CLASSES)}, protocol=2)
    known = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
    archive = write_tar(
        folder / "cifar-100-python.tar.gz", {f"cifar-100-python/{name}": content for name, content in contents.items()}
    )
    return {
        "url": f"{address}/{archive.name}",
        "tgz_md5": md5(archive),
        "train_list": [["train", known["train"]]],
        "test_list": [["test", known["test"]]],
        "meta": {"filename": "meta", "key": "fine_label_names", "md5": known["meta"]},
    }


def mnist(folder: Path, address: str) -> dict[str, object]:
    """As cifar100, for MNIST's four files of grey images with 28 pixels a side."""
    sample, listed = load_file(SAMPLE), []
    for split, start in (("train", "train"), ("test", "t10k")):
        grey = np.stack([in_grey(image) for image in sample[f"{split}_images"]])
        labels = sample[f"{split}_labels"].astype(np.uint8)
        for kind, header, numbers in (
            ("images-idx3", struct.pack(">4i", 2051, len(grey), 28, 28), grey),
            ("labels-idx1", struct.pack(">2i", 2049, len(labels)), labels),
        ):
            path = folder / f"{start}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + numbers.tobytes()))
            listed.append((path.name, md5(path)))
    return {"mirrors": [f"{address}/"], "resources": listed}


def in_grey(image: np.ndarray) -> np.ndarray:
    """uint8 (3, 32, 32) -> (28, 28), its middle."""
    return np.asarray(Image.fromarray(image[:, 2:30, 2:30].transpose(1, 2, 0).copy()).convert("L"))


def pets(folder: Path, address: str) -> dict[str, object]:
    """As cifar100, for Oxford-IIIT Pet's two archives, with JPEGs of two classes."""
    sample = load_file(SAMPLE)
    images, lines = dict[str, bytes](), {"trainval": list[str](), "test": list[str]()}
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        for number, pixels in enumerate(sample[f"{ours}_images"][:40]):
            kind = ("Abyssinian", "great_dane")[number % 2]
            name = f"{kind}_{ours}{number}"
            file = io.BytesIO()
            Image.fromarray(pixels.transpose(1, 2, 0).copy()).resize((50, 40)).save(file, "JPEG")
            images[f"images/{name}.jpg"] = file.getvalue()
            lines[theirs].append(f"{name} {number % 2 + 1} {number % 2 + 1} 1")
    notes = {f"annotations/{name}.txt": "\n".join(rows).encode() for name, rows in lines.items()}
    archives = write_tar(folder / "images.tar.gz", images), write_tar(folder / "annotations.tar.gz", notes)
    return {"_RESOURCES": tuple((f"{address}/{archive.name}", md5(archive)) for archive in archives)}


def textures(folder: Path, address: str) -> dict[str, object]:
    """As cifar100, for the Describable Textures: JPEGs of two classes in three splits."""
    sample = load_file(SAMPLE)["train_images"]
    members = dict[str, bytes]()
    for start, split in enumerate(("train", "val", "test")):
        names = []
        for number, pixels in enumerate(sample[20 * start : 20 * start + 20]):
            kind, file = ("banded", "dotted")[number % 2], io.BytesIO()
            Image.fromarray(pixels.transpose(1, 2, 0).copy()).resize((40, 50)).save(file, "JPEG")
            names.append(f"{kind}/{split}_{number}.jpg")
            members[f"dtd/images/{names[-1]}"] = file.getvalue()
        members[f"dtd/labels/{split}1.txt"] = "\n".join(names).encode()
    archive = write_tar(folder / "dtd-r1.0.1.tar.gz", members)
    return {"_URL": f"{address}/{archive.name}", "_MD5": md5(archive)}
