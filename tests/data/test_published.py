"""torchvision's data sets, fetched by torchvision from a server on this machine; no other machine is reached."""

import inspect
import os
import re
import socket
import tarfile
import time

import numpy as np
import pytest
from safetensors.numpy import load_file
from torchvision import datasets

from raycifar.config.data import Data
from raycifar.config.published import PREFIX, PUBLISHED
from raycifar.data import published
from raycifar.data.own.named import DataError
from raycifar.data.sources import facts_of, fetch_data, known_facts
from raycifar.storage.download import CONNECT_SECONDS
from tests.support.paths import SAMPLE
from tests.support.published import (
    cifar100,
    images_are_opened_here_alone,  # noqa: F401
    in_grey,
    md5,
    mnist,
    pets,
    spec,
    textures,
    write_tar,
)

MADE = {"CIFAR100": cifar100, "MNIST": mnist, "OxfordIIITPet": pets, "DTD": textures}


@pytest.fixture
def offered(tmp_path, monkeypatch, serve, cache):
    """offered(name): torchvision fetches this data set from a server on this machine; returns the server's folder."""

    def offer(name, **changes):
        folder = tmp_path / "server"
        folder.mkdir(exist_ok=True)
        for key, value in (MADE[name](folder, serve(folder)) | changes).items():
            monkeypatch.setattr(getattr(datasets, name), key, value)
        return folder

    return offer


def test_pixels_and_labels_are_those_that_torchvision_reads(offered):
    offered("CIFAR100")
    path, sample = fetch_data(spec("CIFAR100")), load_file(SAMPLE)
    read = load_file(path)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(read[name], sample[name])
    known = facts_of(path, spec("CIFAR100"))
    assert (known.name, known.title, known.side, known.mirror) == ("torchvision/CIFAR100", "CIFAR-100", 32, True)
    assert known.classes[3] == "cat"
    assert known.made == "splits as given"
    assert known.digest[:16] in path.name


def test_small_grey_images_are_stored_as_fashion_mnists_are_and_have_no_mirror_image(offered):
    offered("MNIST")
    path, sample = fetch_data(spec("MNIST")), load_file(SAMPLE)
    images, known = load_file(path)["train_images"], facts_of(path, spec("MNIST"))
    assert images.shape == (320, 3, 32, 32)
    assert np.array_equal(images[7, 1, 2:30, 2:30], in_grey(sample["train_images"][7]))
    assert images[:, :, :2].max() == 0
    assert (known.mirror, known.classes[0]) == (False, "0 - zero")


def test_photographs_are_decoded_as_those_of_a_folder(offered, cache):
    offered("OxfordIIITPet")
    path = fetch_data(spec("OxfordIIITPet", side=24))
    read, known = load_file(path), facts_of(path, spec("OxfordIIITPet"))
    assert read["train_images"].shape == (40, 3, 24, 24)
    assert (known.classes, known.train, known.test) == (("Abyssinian", "Great Dane"), (20, 20), (20, 20))
    assert (cache / "torchvision/OxfordIIITPet/oxford-iiit-pet/images").is_dir()


def test_a_validation_split_that_was_published_is_kept(offered):
    offered("DTD")
    known = facts_of(fetch_data(spec("DTD", side=32)), spec("DTD"))
    assert (known.train, known.val, known.test) == ((10, 10),) * 3


def test_it_is_fetched_once_whatever_the_settings_and_then_read_without_its_host(offered):
    folder = offered("DTD")
    first = fetch_data(spec("DTD", side=32))
    for file in folder.iterdir():
        file.unlink()
    assert fetch_data(spec("DTD", side=32)) == first
    assert facts_of(fetch_data(spec("DTD", side=16)), spec("DTD")).side == 16


def test_a_plan_fetches_nothing(cache):
    known = known_facts(spec("Food101"), fetch=False)
    assert (known.digest, known.train_images, known.test_images, known.side) == ("", 75_750, 25_250, 64)
    cut = known_facts(spec("EuroSAT", test=0.1), fetch=False)
    assert (cut.train_images, cut.test_images, len(cut.classes)) == (24_300, 2_700, 10)
    assert not cache.exists()


def test_a_plan_says_what_is_in_the_cache(offered):
    offered("DTD")
    fetch_data(spec("DTD", side=32))
    assert known_facts(spec("DTD", side=32), fetch=False).train == (10, 10)


def test_a_folder_of_torchvision_is_read_and_nothing_is_fetched(offered, cache):
    offered("CIFAR100")
    fetched = fetch_data(spec("CIFAR100"))
    offered("CIFAR100", url="http://127.0.0.1:9/none")
    assert fetch_data(spec("CIFAR100"), cache / "torchvision/CIFAR100") == fetched


def test_what_a_killed_download_left_is_removed_by_the_next_one(offered, cache):
    left, others = cache / "torchvision/.DTD-0123abcd/whole", cache / "torchvision/.MNIST-0123abcd"
    for folder in (left, others):
        folder.mkdir(parents=True)
    (left / "dtd-r1.0.1.tar.gz").write_bytes(b"half of it")
    offered("DTD")
    fetch_data(spec("DTD", side=32))
    assert sorted(path.name for path in (cache / "torchvision").iterdir()) == [others.name, "DTD", "DTD.lock"]


@pytest.fixture
def silent():
    """The port of a host that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_host_that_does_not_answer_is_given_up_after_seconds(offered, silent, monkeypatch, cache):
    monkeypatch.setattr(published, "CONNECT_SECONDS", 0.3)
    offered("CIFAR100", url=f"http://127.0.0.1:{silent}/cifar-100-python.tar.gz")
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"torchvision could not fetch it .*timed out.* pass the folder as --data DIR"):
        fetch_data(spec("CIFAR100"))
    assert time.monotonic() - begun < CONNECT_SECONDS
    assert socket.getdefaulttimeout() is None
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


FAILS = {
    "another content than published": ("CIFAR100", {"tgz_md5": "0" * 32}, "File not found or corrupted"),
    "no host": ("MNIST", {"mirrors": ["http://127.0.0.1:9/"]}, "Connection refused"),
}


@pytest.mark.parametrize(("name", "changes", "said"), FAILS.values(), ids=FAILS)
def test_what_cannot_be_fetched_is_refused_in_one_line(offered, cache, name, changes, said):
    offered(name, **changes)
    with pytest.raises(DataError) as error:
        fetch_data(spec(name))
    line = str(error.value)
    assert line.startswith(f'data.name = "torchvision/{name}": torchvision could not fetch it (')
    assert said in line
    assert "\n" not in line
    assert not (cache / f"torchvision/{name}").exists()


def test_an_archive_writes_nothing_outside_its_folder(offered, tmp_path, monkeypatch):
    archive = write_tar(offered("DTD") / "dtd-r1.0.1.tar.gz", {"../../../../evil": b"evil"})
    for name, digest in {"_MD5": md5(archive)}.items():
        monkeypatch.setattr(datasets.DTD, name, digest)
    with pytest.raises(DataError, match="outside the destination"):
        fetch_data(spec("DTD"))
    assert not list(tmp_path.rglob("evil"))
    assert tarfile.TarFile.extraction_filter is None


@pytest.mark.parametrize("case", ["nothing", "half of it", "a pipe"])
def test_a_folder_without_the_data_set_is_refused_in_one_line(offered, cache, tmp_path, case):
    offered("CIFAR100")
    fetch_data(spec("CIFAR100"))
    folder = cache / "torchvision/CIFAR100"
    said = "no cifar-100-python in it: name the folder in which torchvision put torchvision/CIFAR100"
    if case == "nothing":
        folder = tmp_path
    else:
        (folder / "cifar-100-python/test").unlink()
        said = "cannot be read from it (Dataset not found or corrupted"
    if case == "a pipe":
        os.mkfifo(folder / "cifar-100-python/test")
        said = "cifar-100-python/test: no file but a pipe"
    with pytest.raises(DataError) as error:
        fetch_data(spec("CIFAR100"), folder)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_has_each_data_set_and_takes_these_arguments(name):
    kind = getattr(datasets, name.removeprefix(PREFIX))
    for arguments in PUBLISHED[name].splits.values():
        inspect.signature(kind).bind("folder", **arguments, download=False)
        with pytest.raises((RuntimeError, FileNotFoundError)):  # not for its arguments
            kind("/nowhere-at-all", **arguments, download=False)


NAMES = {
    "torchvision/cifar100": "did you mean 'torchvision/CIFAR100'?",
    "torchvision/Flowers": "did you mean 'torchvision/Flowers102'?",
    "torchvision/CIFAR10": "is built in: name = 'cifar10'",
    "torchvision/ImageNet": "raycifar lists them with --list-data",
}


@pytest.mark.parametrize(("name", "said"), NAMES.items())
def test_an_unknown_name_is_refused_with_the_nearest_one(name, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Data(name=name)
