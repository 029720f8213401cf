"""torchvision's folders as they lie there unpacked: what is read of them, and what is refused."""

import bz2
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torchvision import datasets

from raycifar.config.published import PREFIX, PUBLISHED
from raycifar.data.own.named import DataError
from raycifar.data.sources import facts_of, fetch_data
from tests.support.published import images_are_opened_here_alone, spec  # noqa: F401
from tests.support.published_folders import FOLDERS, TRAIN, photograph


@pytest.fixture
def unpacked(tmp_path, cache, monkeypatch):
    """unpacked(name): torchvision's folder of this data set, made of the sample's images."""

    def write(name):
        root = tmp_path / "root"
        root.mkdir()
        for key, value in FOLDERS[name][0](root).items():
            monkeypatch.setattr(getattr(datasets, name), key, value)
        return root

    return write


@pytest.mark.parametrize("name", FOLDERS)
def test_what_torchvision_leaves_unpacked_is_read_with_its_splits_and_classes(unpacked, name):
    classes = FOLDERS[name][1]
    path = fetch_data(spec(name, side=32), unpacked(name))
    read, known = load_file(path), facts_of(path, spec(name))
    assert known.classes[:2] == classes
    has_test, has_val = "test" in PUBLISHED[f"{PREFIX}{name}"].splits, "val" in PUBLISHED[f"{PREFIX}{name}"].splits
    assert (known.train[:2], known.test[:2]) == (((20, 20), (10, 10)) if has_test else ((16, 16), (4, 4)))
    assert known.val[:2] == ((10, 10) if has_val else ())
    assert known.made == ("splits as given" if has_test else "20 % cut for the test, stratified")
    # A class's images are its own: the labels are those that the images were written with.
    shown = [shrunk(image) for image in read["train_images"]]
    written = [shrunk(np.asarray(photograph(number)).transpose(2, 0, 1)) for number in TRAIN]
    nearest = [int(np.argmin([np.abs(one - other).mean() for other in written])) for one in shown]
    right = sum(number % 2 == label for number, label in zip(nearest, read["train_labels"], strict=True))
    assert right > 0.9 * len(shown)


def shrunk(image):
    """Grey, 8 x 8, without brightness: what is alike in an image and its small, grey or compressed copy."""
    grey = image.astype(float).mean(0)[2:30, 2:30].reshape(7, 4, 7, 4).mean((1, 3))
    return (grey - grey.mean()) / (grey.std() + 1e-9)


GARBAGE = b"garbage"
FILES = {"Caltech101": "airplanes/image_0003.jpg", "Caltech256": "001.ak47/001_0003.jpg", "GTSRB": "Images/43.ppm"}
SPOILT = [
    *((name, GARBAGE, "no image") for name in FILES),
    *((name, None, "No such file") for name in FILES),
    ("GTSRB", b"P6\n12x 10\n255\n", "invalid literal"),
    ("GTSRB", b"P6\n99999 99999\n255\n" + bytes(10), "10000 megapixels"),
    ("Flowers102", GARBAGE, "no image"),
]


@pytest.mark.parametrize(("name", "content", "said"), SPOILT, ids=[f"{name}: {said}" for name, _, said in SPOILT])
def test_an_image_that_cannot_be_read_is_named_or_left_out_as_the_sweep_file_asks(unpacked, name, content, said):
    root = unpacked(name)
    (file,) = root.rglob(FILES.get(name, "image_00003.jpg"))
    file.unlink()
    if content:
        file.write_bytes(content)
    line = rf"1 of \d+ images cannot be read: {re.escape(str(file.relative_to(root)))} \(.*{said}"
    with pytest.raises(DataError, match=line):
        fetch_data(spec(name, side=32), root)
    assert facts_of(fetch_data(spec(name, side=32, corrupt="skip"), root), spec(name)).skipped == 1


def no_images(root):
    for file in root.rglob("image_*.jpg"):
        file.unlink()


def no_test_images(root):
    (root / "gtsrb/GT-final_test.csv").write_text("Filename;ClassId\n")


def an_image_elsewhere(root):
    (root / "gtsrb/GT-final_test.csv").write_text("Filename;ClassId\n../../../../../photograph.ppm;1\n")


def a_label_below_all(root):
    (root / "usps.bz2").write_bytes(bz2.compress(b"0 " + b" ".join(b"%d:0.5" % i for i in range(1, 257))))


def a_label_above_all(root):
    path = root / "KMNIST/raw/t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x09")


def an_older_torchvisions_folder(root):
    """As it was before 0.10, with images that nothing verifies."""
    (root / "KMNIST/processed").mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(9, 28, 28, dtype=torch.uint8), torch.arange(9) % 2), root / "KMNIST/processed" / name)


READ = "cannot be read from it ("
DAMAGED = {
    "classes without images": ("Caltech101", no_images, f"{READ}no image in it): "),
    "a test split without images": ("GTSRB", no_test_images, f"{READ}no image in its split test): "),
    "an image elsewhere": ("GTSRB", an_image_elsewhere, f"{READ}../photograph.ppm is named in it and lies outside): "),
    "a label below all": ("USPS", a_label_below_all, f"{READ}labels from -1 to 1, and 2 classes): "),
    "a label above all": ("KMNIST", a_label_above_all, f"{READ}labels from 0 to 9, and 2 classes): "),
    "an older torchvision's": ("KMNIST", an_older_torchvisions_folder, "KMNIST/processed, an older torchvision's, "),
}


@pytest.mark.parametrize("is_named", [True, False], ids=["--data", "the cache's"])
@pytest.mark.parametrize(("name", "spoil", "said"), DAMAGED.values(), ids=DAMAGED)
def test_what_torchvision_cannot_or_should_not_read_is_refused_in_one_line(
    unpacked, cache, is_named, name, spoil, said
):
    root = unpacked(name)
    spoil(root)
    if not is_named:
        root = shutil.copytree(root, cache / f"torchvision/{name}")
    with pytest.raises(DataError, match=re.escape(said)) as error:
        fetch_data(spec(name), root if is_named else None)
    line = str(error.value)
    assert line.startswith(f"--data {root}: " if is_named else f"{root}: ")
    assert "remove it" in line or "fetch it again by torchvision" in line
    assert "\n" not in line


def test_a_folder_whose_name_is_too_long_is_refused_in_one_line(cache):
    with pytest.raises(DataError, match=r"^--data /tmp/a+: File name too long: name the folder in which torchvision"):
        fetch_data(spec("MNIST"), Path("/tmp", 300 * "a"))


def test_photographs_as_small_as_mnists_images_get_no_border(unpacked):
    root = unpacked("GTSRB")
    Image.new("RGB", (28, 28), "white").save(root / "gtsrb/GTSRB/Training/00000/0.ppm")
    assert load_file(fetch_data(spec("GTSRB"), root))["train_images"][0].min() == 255
