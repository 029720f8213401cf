"""The cache of data and weights, with a toy for an asset."""

import multiprocessing
import os
import struct
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from raycifar.data import cifar10, fashion_mnist
from raycifar.storage import asset_cache
from raycifar.storage.cache import cache_folder
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401

TOY = asset_cache.Asset("Toy", {"numbers": ("uint8", (1000,))}, lambda tensors: None, "by hand: carve one.")


def obtain_toy(path, log, seconds=0.0):
    """Fetch the toy, leaving a line in `log`; a function of the module so that other processes can run it."""

    def slow(scratch):
        with log.open("a") as file:
            file.write("fetched\n")
        time.sleep(seconds)
        return {"numbers": np.arange(1000, dtype=np.uint8)}

    return asset_cache.obtain(TOY, path, [("slow", slow)])


def test_what_is_fetched_is_read_back_and_neither_fetched_nor_locked_again(tmp_path):
    path, log = tmp_path / "toy.safetensors", tmp_path / "log"
    obtain_toy(path, log)
    (tmp_path / "toy.safetensors.lock").unlink()
    assert obtain_toy(path, log) == path
    np.testing.assert_array_equal(load_file(path)["numbers"], np.arange(1000, dtype=np.uint8))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "toy.safetensors"]
    assert log.read_text() == "fetched\n"


def flip_a_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def with_header(path, header):
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(1000))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 20),
        lambda path: os.truncate(path, 0),
        lambda path: flip_a_bit(path, -500),
        lambda path: flip_a_bit(path, 5),
        lambda path: flip_a_bit(path, path.read_bytes().index(b"1000")),
        lambda path: save_file({"numbers": np.zeros(1000, np.uint8)}, path),
        lambda path: with_header(path, b'{"__metadata__":[],"numbers":{"dtype":"U8","shape":[1000]}}'),
        lambda path: with_header(path, b"[" * 100_000),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: asset_cache.write_asset(
            path, {"letters": np.zeros(1000, np.uint8)}, "an older version", path.parent
        ),
    ],
    ids=[
        "a byte short",
        "header cut",
        "empty",
        "bit in data",
        "bit in length",
        "bit in shape",
        "no digest",
        "metadata that are a list",
        "header nested deeply",
        "a pipe",
        "other name",
    ],
)
def test_a_damaged_cache_file_is_fetched_again_with_a_warning(damage, tmp_path, capsys):
    path, log = tmp_path / "toy.safetensors", tmp_path / "log"
    obtain_toy(path, log)
    damage(path)
    obtain_toy(path, log)
    assert log.read_text() == "fetched\n" * 2
    assert "is damaged" in capsys.readouterr().err
    assert asset_cache.flaw(path, TOY.layout) is None


def test_two_processes_that_fetch_at_once_fetch_once(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "toy.safetensors", tmp_path / "log", 0.5)
    both = [spawn.Process(target=obtain_toy, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_a_process_that_waits_for_one_that_is_killed_fetches_and_sweeps_up(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    path, log = tmp_path / "toy.safetensors", tmp_path / "log"
    killed = spawn.Process(target=obtain_toy, args=(path, log, 600))
    killed.start()
    while not log.exists():
        time.sleep(0.01)
    waits = spawn.Process(target=obtain_toy, args=(path, log))
    waits.start()
    time.sleep(0.5)  # it may wait by now, or come later: both must do
    killed.kill()
    waits.join(60)
    assert waits.exitcode == 0
    assert asset_cache.flaw(path, TOY.layout) is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "toy.safetensors", "toy.safetensors.lock"]


def test_who_finds_the_lock_taken_says_so_and_waits(tmp_path, capsys):
    path, log = tmp_path / "toy.safetensors", tmp_path / "log"
    other = threading.Thread(target=obtain_toy, args=(path, log, 0.5))
    other.start()
    while not log.exists():
        time.sleep(0.01)
    obtain_toy(path, log)
    other.join()
    assert "another process is fetching it; waiting" in capsys.readouterr().err
    assert log.read_text() == "fetched\n"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_a_fetch_cut_short_leaves_no_file(interruption, tmp_path):
    def cut_short(scratch):
        (scratch / "half").write_text("hal")
        raise interruption

    with pytest.raises((KeyboardInterrupt, asset_cache.AssetError)):
        asset_cache.obtain(TOY, tmp_path / "toy.safetensors", [("cut short", cut_short)])
    assert {path.name for path in tmp_path.iterdir()} <= {"toy.safetensors.lock"}


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    left, of_another_file = tmp_path / ".toy.safetensors-x", tmp_path / ".toy-b.safetensors-x"
    left.mkdir()
    of_another_file.mkdir()
    obtain_toy(tmp_path / "toy.safetensors", tmp_path / "log")
    assert (left.exists(), of_another_file.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(asset_cache.AssetError, match="RAYCIFAR_CACHE"):
        obtain_toy(tmp_path / "file" / "toy.safetensors", tmp_path / "log")


def test_the_cache_folder_is_absolute_whatever_the_variable_holds(monkeypatch):
    monkeypatch.setenv("RAYCIFAR_CACHE", "somewhere")
    assert cache_folder() == Path.cwd() / "somewhere"
    monkeypatch.setenv("RAYCIFAR_CACHE", "")
    assert cache_folder().name == "raycifar"


def test_a_source_that_fails_gives_way_to_the_next(tmp_path, capsys):
    def broken(scratch):
        raise KeyError("numbers")

    def misshapen(scratch):
        return {"numbers": np.zeros(3, np.uint8)}

    def sound(scratch):
        return {"numbers": np.zeros(1000, np.uint8)}

    asset_cache.obtain(TOY, tmp_path / "toy", [("broken", broken), ("misshapen", misshapen), ("sound", sound)])
    assert "numbers is uint8 (3,), expected uint8 (1000,)" in capsys.readouterr().err


def numbers(shift=0):
    return {"numbers": np.roll(np.arange(1000, dtype=np.uint8), shift)}


@pytest.fixture
def known(tmp_path, tmp_path_factory):
    """The toy with its numbers' SHA-256, and a cached file that holds others and says of itself that it is right."""
    asset_cache.obtain(TOY, tmp_path / "right.safetensors", [("right", lambda scratch: numbers())])
    asset_cache.write_asset(tmp_path / "toy.safetensors", numbers(1), "a stranger", tmp_path_factory.mktemp("scratch"))
    assert asset_cache.flaw(tmp_path / "toy.safetensors", TOY.layout) is None
    return replace(TOY, sha256={asset_cache.ANY: asset_cache.digest_on_file(tmp_path / "right.safetensors")})


def test_a_cached_file_that_says_of_itself_that_it_is_right_is_fetched_again(known, tmp_path, capsys):
    path = tmp_path / "toy.safetensors"
    asset_cache.obtain(known, path, [("right", lambda scratch: numbers())])
    np.testing.assert_array_equal(load_file(path)["numbers"], numbers()["numbers"])
    assert "not those that are known by their SHA-256" in capsys.readouterr().err


def test_a_source_that_gives_other_contents_than_the_known_is_not_kept(known, tmp_path):
    with pytest.raises(asset_cache.AssetError, match="what came from other is not kept"):
        asset_cache.obtain(known, tmp_path / "toy.safetensors", [("other", lambda scratch: numbers(2))])
    assert not (tmp_path / "toy.safetensors").exists()


def test_where_one_source_gives_others_the_next_is_tried(known, tmp_path, capsys):
    path = tmp_path / "toy.safetensors"
    asset_cache.obtain(known, path, [("other", lambda scratch: numbers(2)), ("right", lambda scratch: numbers())])
    assert asset_cache.metadata_on_file(path)["source"] == "right"
    assert "what came from other is not kept" in capsys.readouterr().err


SETS = {
    "cifar10": (cifar10.CIFAR10_ASSET, cifar10.fetch_cifar10),
    "fashion_mnist": (fashion_mnist.FASHION_MNIST_ASSET, fashion_mnist.fetch_fashion_mnist),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_a_strangers_cached_data_set_is_not_taken(name, cache, unreachable, monkeypatch, capsys):
    asset, fetch = SETS[name]
    monkeypatch.setattr(fashion_mnist, "run_program", cifar10.run_program)
    cache.mkdir()
    path = cache / f"{name}.safetensors"
    rolled = {key: np.zeros(shape, kind) for key, (kind, shape) in asset.layout.items()}
    asset_cache.write_asset(path, rolled, "torchvision's download", cache)
    assert asset_cache.flaw(path, asset.layout) is None
    with pytest.raises(asset_cache.AssetError):
        fetch()
    assert "not those that are known by their SHA-256" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.assets
@pytest.mark.parametrize("name", SETS)
def test_a_data_set_is_the_one_whose_sha_256_is_known(name):
    asset, fetch = SETS[name]
    assert asset_cache.flaw(fetch(), asset.layout, asset.sha256) is None
