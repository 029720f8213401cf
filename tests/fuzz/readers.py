"""Gives mutated files to every reader: `make fuzz SECONDS=600`, or `python -m tests.fuzz.readers 600 [SEED]`.

A reader may accept an input, or refuse it with an error that it documents. Any other error is a crash, and so is a
reader that takes longer than PATIENCE. A crash is printed with the seed that reproduces it; the exit status is then 1.
"""

import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.formats import write_formats, write_frames
from raycifar.analysis.report.pages import pages
from raycifar.analysis.report.report import make_report, write_tables
from raycifar.analysis.results import read_results
from raycifar.analysis.trial_state import ResultsError
from raycifar.config.names import SpecError
from raycifar.config.sweep_file import load_sweep
from raycifar.data import cifar10
from raycifar.networks import weights
from raycifar.search.spec import load_search
from raycifar.storage import asset_cache
from raycifar.storage.asset_cache import AssetError
from raycifar.storage.checkpoints import newest_checkpoint, saved_history
from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from raycifar.trained_model import load_model
from raycifar.training.checkpoint_writer import load_checkpoint, save_checkpoint
from raycifar.training.failures import CheckpointError
from tests.support.sweep_folders import add_predictions, begin_trial, trial_spec, write_sweep

PATIENCE = 10  # seconds
SWEEPS = [path.read_bytes() for path in sorted(Path("sweeps").glob("*.toml"))]
SEARCH = Path("sweeps/search.toml").read_bytes()
SETTINGS = [b"epochs=3", b"optimizer.lr=0.05", b"a.model.hidden=[64, 32]", b"schedule={name='cosine'}"]
ODD = [
    None,
    True,
    -1,
    0,
    3,
    2**63,
    10**400,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    "\x1b[2J",
    [],
    {},
]
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
TOKENS = re.compile(rb"[A-Za-z_]+|[0-9.]+|\s+|.", re.DOTALL)


def bytes_mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bits, bytes, slices or words of the content replaced, left out, doubled or moved."""
    for _ in range(rng.randint(1, 4)):
        at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        part = content[at : min(to, at + rng.choice((1, 8, 1000)))]
        rest, words = content[at + len(part) :], TOKENS.findall(content[:20_000]) or [b"x"]
        new = rng.choice(
            (
                b"",
                part * 2,
                rng.randbytes(len(part[:50])),
                rng.choice(words),
                str(rng.choice(ODD)).encode("utf-8", "surrogatepass"),
            )
        )
        content = content[:at] + new + rest
    return content


def json_mutated(data: Any, rng: random.Random) -> Any:
    """The data with one value replaced by an odd one, or left out."""
    if rng.random() < 0.15 or not isinstance(data, dict | list) or not data:
        return rng.choice(ODD)
    if isinstance(data, list):
        index = rng.randrange(len(data))
        return rng.choice(
            (data[:index], data + data, [*data[:index], json_mutated(data[index], rng), *data[index + 1 :]])
        )
    key = rng.choice(list(data))
    if rng.random() < 0.15:
        return {k: v for k, v in data.items() if k != key}
    return data | {key: json_mutated(data[key], rng)}


def record_mutated(path: Path, rng: random.Random) -> bytes:
    """The content of a JSON file, mutated as bytes or as data."""
    content = path.read_bytes()
    return (
        bytes_mutated(content, rng)
        if rng.random() < 0.4
        else json.dumps(json_mutated(json.loads(content), rng)).encode()
    )


def archive_mutated(content: bytes, rng: random.Random) -> bytes:
    """A zip archive whose members' first bytes, way of compression, flags or compressed bytes have changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as there, zipfile.ZipFile(file, "w", rng.choice(METHODS)) as here:
        for name in there.namelist():
            array = there.read(name)
            here.writestr(name, bytes_mutated(array[:200], rng) + array[200:] if rng.random() < 0.4 else array)
    mutated = bytearray(file.getvalue())
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)) if rng.random() < 0.2 else ():
        mutated[mutated.find(sign) + flags] ^= 1 << rng.randrange(8)  # encrypted, for one
    at = rng.randrange(len(mutated))
    return bytes(mutated[:at] + rng.randbytes(rng.choice((0, 1, 50))) + mutated[at + rng.choice((0, 1, 50)) :])


class Targets:
    """Each public method but `damaged` gives one mutated input to one reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweep = write_sweep(folder / "sweep", {"transfer": (1, 2), "scratch": (1, 3)})
        add_predictions(self.sweep)
        begin_trial(self.sweep, trial_spec(self.sweep, "scratch"), 2)
        self.records = sorted(path for path in self.sweep.path.rglob("*.json"))
        history = self.sweep.trial("scratch").history()
        self.checkpoint = save_checkpoint(self.sweep.trial("scratch").path, {"weight": torch.zeros(8)}, history)
        self.batch = pickle.dumps({b"labels": [1, 2], b"data": np.zeros((2, 3072), np.uint8)}, protocol=2)
        self.weights = {".safetensors": save({"features.0.bias": np.zeros(64, np.float32)}), ".pth": self._state_dict()}

    def _state_dict(self) -> bytes:
        file = io.BytesIO()
        torch.save({"features.0.bias": torch.zeros(64)}, file)
        return file.getvalue()

    def sweep_file(self, rng: random.Random) -> None:
        path = self.folder / "some.toml"
        path.write_bytes(bytes_mutated(rng.choice(SWEEPS), rng))
        load_sweep(path)

    def search_file(self, rng: random.Random) -> None:
        path = self.folder / "search.toml"
        path.write_bytes(bytes_mutated(SEARCH, rng))
        load_search(path)

    def setting(self, rng: random.Random) -> None:
        path = self.folder / "sound.toml"
        path.write_bytes(SWEEPS[0])
        text = bytes_mutated(rng.choice(SETTINGS), rng).decode("utf-8", "surrogateescape")
        load_sweep(path, [text]).only([text] if rng.random() < 0.1 else [])

    @contextmanager
    def damaged(self, path: Path, content: bytes) -> Iterator[None]:
        sound = path.read_bytes()
        path.write_bytes(content)
        try:
            yield
        finally:
            path.write_bytes(sound)

    def results(self, rng: random.Random) -> None:
        path = rng.choice(self.records)
        with self.damaged(path, record_mutated(path, rng)):
            results = read_results(self.sweep.path)
            report = make_report(results)
            pages(report, [])
            write_tables(report, self.folder)
            write_frames({"epochs": results.epochs, "trials": results.trials}, self.folder)
            write_formats({"epochs": results.epochs, "trials": results.trials}, self.folder, ["parquet"])

    def predictions(self, rng: random.Random) -> None:
        path = SweepFolder(self.sweep.path).trial("transfer").predictions
        mutated = rng.choice((bytes_mutated, archive_mutated))
        with self.damaged(path, mutated(path.read_bytes(), rng)):
            read_predictions(read_results(self.sweep.path))

    def trained_model(self, rng: random.Random) -> None:
        path = self.sweep.trial("transfer").best_weights
        path.write_bytes(bytes_mutated(self.weights[".safetensors"], rng))
        load_model(self.sweep.path)

    def state_of_a_checkpoint(self, rng: random.Random) -> None:
        path = self.checkpoint / "state.pt"
        mutated = rng.choice((bytes_mutated, archive_mutated))
        with self.damaged(path, mutated(path.read_bytes(), rng)), warnings.catch_warnings(action="ignore"):
            load_checkpoint(self.checkpoint)

    def records_of_the_training_half(self, rng: random.Random) -> None:
        path = rng.choice(self.records)
        with self.damaged(path, record_mutated(path, rng)):
            trial = SweepFolder(self.sweep.path).trial("scratch")
            for read in (self.sweep.record, self.sweep.invocations, trial.history, trial.summary, trial.error):
                read()

    def checkpoint_files(self, rng: random.Random) -> None:
        path = self.checkpoint / rng.choice(("manifest.json", "history.json", "state.pt"))
        with self.damaged(
            path, bytes_mutated(path.read_bytes(), rng) if path.suffix == ".pt" else record_mutated(path, rng)
        ):
            newest_checkpoint(self.checkpoint.parent)
            saved_history(self.checkpoint.parent)

    def cifar10_folder(self, rng: random.Random) -> None:
        folder = self.folder / "batches"
        folder.mkdir(exist_ok=True)
        for name in (*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH):
            (folder / name).write_bytes(bytes_mutated(self.batch, rng))
        cifar10.fetch_cifar10(folder)

    def weights_file(self, rng: random.Random) -> None:
        suffix = rng.choice(list(self.weights))
        path = self.folder / f"weights{suffix}"
        mutated = rng.choice((bytes_mutated, archive_mutated)) if suffix == ".pth" else bytes_mutated
        path.write_bytes(mutated(self.weights[suffix], rng))
        weights.fetch_vgg16(path)

    def cached_file(self, rng: random.Random) -> None:
        path = self.folder / "cached.safetensors"
        path.write_bytes(bytes_mutated(self.weights[".safetensors"], rng))
        assert asset_cache.flaw(path, weights.VGG16_LAYOUT)


DOCUMENTED = (SpecError, RecordError, ResultsError, AssetError, CheckpointError)


def crash(target: Callable[[random.Random], None], seed: str) -> BaseException | None:
    """The error by which a target crashes on the input of this seed, if it does."""
    signal.alarm(PATIENCE)
    try:
        target(random.Random(seed))
    except DOCUMENTED as error:
        return None if all(line.isprintable() for line in str(error).splitlines()) else error
    except Exception as error:
        return error
    finally:
        signal.alarm(0)
    return None


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {PATIENCE} s")


def show(name: str, seed: str, error: BaseException) -> None:
    *_, place = traceback.extract_tb(error.__traceback__)
    print(f"CRASH {name} {seed}: {type(error).__name__}: {error!s:.200} at {place.filename}:{place.lineno}", flush=True)


def main(seconds: float, seed: int) -> int:
    signal.signal(signal.SIGALRM, _too_long)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["RAYCIFAR_CACHE"] = str(folder / "cache")
    asset_cache.say = lambda text: None
    for source in (cifar10, weights):
        source.verify = lambda *_, **__: None  # else the digests would keep damaged files from the parsers
    targets = Targets(folder)
    names = [
        name
        for name, value in vars(Targets).items()
        if callable(value) and not name.startswith("_") and name != "damaged"
    ]
    inputs, crashes, until, number = Counter[str](), 0, time.monotonic() + seconds, 0
    while time.monotonic() < until:
        name = names[number % len(names)]
        one = f"{seed}/{number}"
        if error := crash(getattr(targets, name), one):
            crashes += 1
            show(name, one, error)
        inputs[name] += 1
        number += 1
    shutil.rmtree(folder)
    print(f"{number:,} inputs in {seconds:g} s, seed {seed}, {crashes} crashes: ", dict(inputs))
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()))
