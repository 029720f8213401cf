"""Real images at tiny size: 320 training and 160 test images of CIFAR-10 (tests/samples/README.md)."""

import functools
import gc
import http.server
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from safetensors.torch import load_file

import raycifar
from raycifar.config.sweep import TrialSpec
from raycifar.data import cifar10
from raycifar.data.splits import Split
from raycifar.execution import interruption
from raycifar.networks import weights
from raycifar.storage import download
from tests.support.paths import SAMPLE

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the norm kernels are imported: they run on the CPU then
torch.set_num_threads(1)  # pytest runs several processes
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
hypothesis.settings.load_profile("any machine")
gc.disable()  # while thousands of tests are collected; see pytest_collection_finish


def pytest_collection_finish() -> None:
    """The garbage collector passes over what collection made: walking that takes 0.5 s, and run_sweep() asks for it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_power_failure() -> Iterator[None]:
    """Nothing is flushed to the disk, 3 ms a file: only a machine that loses its power would miss it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses what is no open file, too
        yield


@pytest.fixture(scope="session")
def sample() -> dict[str, torch.Tensor]:
    return load_file(SAMPLE)


@pytest.fixture(scope="session")
def train_images(sample: dict[str, torch.Tensor]) -> Split:
    return Split(sample["train_images"], sample["train_labels"])


@pytest.fixture(scope="session")
def test_images(sample: dict[str, torch.Tensor]) -> Split:
    return Split(sample["test_images"], sample["test_labels"])


@pytest.fixture
def make_trial():
    """A small trial from the sample images; keyword arguments replace its settings."""

    def make(**settings: Any) -> TrialSpec:
        data = {"train_images": 40, "holdout_images": 20, "test_images": 20}
        base = {"name": "tiny", "arm": "tiny", "seed": 1, "epochs": 2, "batch_size": 16}
        return TrialSpec.model_validate({**base, "model": {"weights": "random"}, "data": data, **settings})

    return make


@pytest.fixture
def no_leaving() -> Iterator[None]:
    """Whatever made this process leave in a test, and would soon end it, is undone behind the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    interruption.start_anew()
    yield
    interruption.start_anew()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def real_sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished sweep's folder: VGG16 trained for one epoch on a few real images, with the real ImageNet weights."""
    data = {"train_images": 40, "holdout_images": 20, "test_images": 40}
    base = {"seed": 1, "epochs": 1, "batch_size": 20, "data": data, "precision": "fp32"}
    transfer = {"name": "transfer", "arm": "transfer", "model": {"weights": "imagenet", "train": "head"}}
    scratch = {"name": "scratch", "arm": "scratch", "model": {"weights": "random", "train": "head"}}
    sweep = raycifar.SweepSpec.model_validate({"name": "tiny", "trials": [base | transfer, base | scratch]})
    storage = tmp_path_factory.mktemp("real")
    yield raycifar.run_sweep(sweep, raycifar.Options(local=True, gpus=0), storage=storage).path
    shutil.rmtree(storage)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def unreachable(monkeypatch):
    def refuse(*args):
        raise ConnectionError("refused")

    monkeypatch.setattr(download, "connect", refuse)
    for source in (cifar10, weights):
        monkeypatch.setattr(source, "run_program", refuse)


@pytest.fixture
def serve(monkeypatch):
    """serve(folder) -> address of an HTTP server for its files."""
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(folder):
        quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=folder))
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
