"""Folders of results with up to 200 hostile changes, given to every command:
`python -m tests.fuzz.hostile_folders 600 [SEED]`.

Whatever lies in such a folder, no command changes, deletes or makes anything outside it (a tree of canaries is compared
before and after), none ends in a traceback or with another status than 0, 1 or 2, and none takes longer than PATIENCE.
The folders are those of a real sweep and a real search, of networks small enough to train in no time. A failure is
printed with the seed that makes the same folder again; the exit status is then 1.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

import raycifar
import raycifar.export
import raycifar.trained_model
from raycifar.analysis.figures.all_figures import all_figures
from raycifar.analysis.trial_state import ResultsError
from raycifar.commands import analyze, run_sweep
from raycifar.execution import interruption
from raycifar.execution.local import Local
from raycifar.execution.options import Options
from raycifar.search import ray_search
from raycifar.search.records import SearchFolder
from raycifar.training.trial import Assets
from tests.fuzz.readers import bytes_mutated, json_mutated
from tests.support.canaries import Seen, canaries, seen
from tests.support.networks import Small
from tests.support.paths import SAMPLE

PATIENCE = 20  # seconds of the processor
HANDLED = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGVTALRM, signal.SIGUSR1)
MOST_CHANGES = 200
SWEEP = """
name = "tiny"
[defaults]
epochs = 2
batch_size = 20
precision = "fp32"
model = { weights = "random" }
data = { train_images = 40, holdout_images = 20, test_images = 20 }
[[trials]]
name = "done"
[[trials]]
name = "half"
seed = 2
[[trials]]
name = "new"
seed = 3
"""
SEARCH = """
name = "search"
[[trials]]
name = "a"
epochs = 2
batch_size = 20
precision = "fp32"
model = { weights = "random" }
data = { train_images = 40, holdout_images = 20 }
[search]
samples = 3
[search.space]
optimizer.lr = { loguniform = [1e-3, 1e-2] }
"""
# Names that the product, Ray or a tracker writes, where something else may lie in wait.
NAMES = f"""
    sweep.json search.json invocations.json sweep.lock notes.md best.toml samples.csv tables figures export wandb
    analysis analysis/figures analysis/tables analysis/export analysis/export/done analysis/beside-tiny
    analysis/report.md analysis/report.html analysis/trials.csv analysis/figures/timeline.png analysis/tables/seeds.csv
    analysis/.trials.csv.{os.getpid()} analysis/figures/.timeline.png .raycifar-0123456789abcdef.part
    mlflow.db mlflow.db-journal tuner.pkl .validate_storage_marker .sweep.json.{os.getpid()}
    done done/history.json done/summary.json done/error.json done/predictions.npz done/best.safetensors
    half half/history.json half/error.json half/predictions.npz half/best.safetensors half/.history.json.{os.getpid()}
    half/checkpoint_000001 half/checkpoint_000002 half/checkpoint_000003 half/.checkpoint_000002.{os.getpid()}.partial
    half/checkpoint_000001/state.pt half/checkpoint_000001/history.json half/checkpoint_000001/manifest.json
    half/events.out.tfevents.1.host half/result.json half/params.json new new/history.json
    sample-0001 sample-0001/sample.json sample-0002 sample-0002/sample.json sample-0002/history.json
    sample-0002/error.json sample-0002/params.json sample-0003 sample-9999
""".split()
ODD_NAMES = ("\u202egnp.exe", "a\nb", "\x1b[2J", "ü" * 100, "-rf", " ", "sample-\u0661", "\udcff\udcfe")


class Stranger:
    """Changes a folder of results; each public method makes one change at a path in it."""

    def __init__(self, folder: Path, outside: Path, rng: random.Random, aim: str) -> None:
        """`aim`: how the names begin that half of the changes are made at."""
        self._folder, self._outside, self._rng = folder, outside, rng
        self._aimed = [name for name in NAMES if name.startswith(aim)]
        # Where no record breaks, commands go further.
        self._spared = [*folder.rglob("*.json")] if rng.random() < 0.6 else []

    def change(self) -> None:
        """One random change; what cannot be done to what lies there is not done."""
        methods = [name for name in vars(Stranger) if not name.startswith("_") and name != "change"] + 5 * ["link"]
        path = self._somewhere()
        if path in self._spared:
            return
        with contextlib.suppress(OSError, ValueError):
            getattr(self, self._rng.choice(methods))(path)

    def _somewhere(self) -> Path:
        there = [Path(at, name) for at, folders, files in _walk(self._folder) for name in sorted(folders + files)]
        if self._rng.random() < 0.7 or not there:
            return self._folder / self._rng.choice(self._rng.choice([NAMES, self._aimed]))
        return self._rng.choice(there)

    def _elsewhere(self, is_folder: bool) -> Path:
        there = sorted(path for path in self._outside.rglob("*") if path.is_dir() == is_folder)
        devices = [Path("/dev/zero"), Path("/dev/full")]
        return self._rng.choice([*there, *there, self._outside / "not there", *([] if is_folder else devices)])

    def _gone(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self._folder):
            raise OSError("not ours")
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def link(self, path: Path) -> None:
        to = self._elsewhere(is_folder=path.is_dir() or "." not in path.name)
        if self._rng.random() < 0.3:
            to = Path(os.path.relpath(to, path.parent))
        self._gone(path)
        path.symlink_to(self._rng.choice([to, to, to, path.name]))

    def hard_link(self, path: Path) -> None:
        others = sorted(file for file in self._outside.rglob("*") if file.is_file() and not file.is_symlink())
        self._gone(path)
        os.link(self._rng.choice(others), path)

    def pipe(self, path: Path) -> None:
        self._gone(path)
        os.mkfifo(path)

    def folder(self, path: Path) -> None:
        self._gone(path)
        path.mkdir()

    def size(self, path: Path) -> None:
        if self._is_file(path):
            os.truncate(path, self._rng.choice([0, 1, path.stat().st_size // 2, 2**31, 2**34]))

    def bytes(self, path: Path) -> None:
        if self._is_file(path):
            self._write(path, bytes_mutated(path.read_bytes(), self._rng))

    def record(self, path: Path) -> None:
        if self._is_file(path) and path.suffix == ".json":
            self._write(path, json.dumps(json_mutated(json.loads(path.read_bytes()), self._rng)).encode())

    def name_in_a_record(self, path: Path) -> None:
        if self._is_file(path) and path.suffix == ".json":
            self._write(path, json.dumps(self._renamed(json.loads(path.read_bytes()))).encode())

    def _renamed(self, data: Any) -> Any:
        """A few texts of the record, names of other places."""
        if isinstance(data, dict):
            return {key: self._renamed(value) for key, value in data.items()}
        if isinstance(data, list):
            return [self._renamed(item) for item in data]
        others = [str(self._outside), f"../../{self._outside.name}", "..", ".", "", "/", "sample-0001", "done", "a\0b"]
        return self._rng.choice(others) if isinstance(data, str) and self._rng.random() < 0.1 else data

    def rename(self, path: Path) -> None:
        to = path.with_name(self._rng.choice([*ODD_NAMES, *(Path(name).name for name in NAMES), "x" * 255]))
        if os.path.lexists(path):
            self._gone(to)
            path.rename(to)

    def nesting(self, path: Path) -> None:
        self._gone(path)
        (path / "/".join("d" * self._rng.choice([10, 100, 400]))).mkdir(parents=True)

    def mode(self, path: Path) -> None:
        if not path.is_symlink():
            path.chmod(self._rng.choice([0, 0o400, 0o777, 0o7777, 0o200]))

    def _is_file(self, path: Path) -> bool:
        if not path.is_file() or not path.resolve().is_relative_to(self._folder):
            return False
        return path.stat().st_nlink == 1 and path.stat().st_size < 10**7

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, in an order that is always the same, and not into nested folders without end."""
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(folders) if at.count("/") < str(folder).count("/") + 5 else []
        yield at, folders, files


def search_without_tune(search: Any, folder: SearchFolder, session: Any, bus: Any) -> None:
    """In the place of Tune: the samples of this call one after the other, none stopped early."""
    from dataclasses import asdict

    draws = ray_search.Draws(search, folder)
    ray_search.asha(search, folder)
    for number in range(len(session.plan.order)):
        config = draws.suggest(str(number))
        tell = ray_search.TellBusOfSamples(search, folder, bus)
        trial = SimpleNamespace(config=config)
        tell.on_trial_start(0, [], trial)
        with contextlib.suppress(Exception):  # as Tune, which counts the trial as failed
            ray_search.train_sample(config, search.model_dump(mode="json"), asdict(session.job(folder.path)))
        tell.on_trial_complete(0, [], trial)


def _whole(*_: Any) -> Small:
    """A small network with what a model card and predictions ask of one."""
    network = Small()
    network.mean, network.pixels = torch.zeros(()), ((0.5,) * 3, (0.5,) * 3)
    return network


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Small networks, the sample images, and no Ray."""
    small = lambda *_: Small()  # noqa: E731
    with contextlib.ExitStack() as stack:
        for name, other in (
            ("raycifar.training.trial.network", small),
            ("raycifar.search.sample.network", small),
            ("raycifar.execution.runners.fetch_assets", lambda *_: Assets(SAMPLE, None)),
            (
                "raycifar.execution.runners.start_ray",
                lambda options: contextlib.nullcontext(Local(Options(local=True))),
            ),
            ("raycifar.search.ray_search.search_on_ray", search_without_tune),
            ("raycifar.search.ray_search.here", lambda job: raycifar.training.trial.Place("cpu", 1, "here:cpu")),
            ("raycifar.analysis.report.report.all_figures", lambda *_: islice(all_figures(*_), 1)),  # one is as all are
            ("raycifar.trained_model.make_network", _whole),
            ("raycifar.export.fetch_data", lambda *_: SAMPLE),
            ("raycifar.export.write_onnx", lambda model, images, file: file.write_bytes(b"onnx")),
            ("raycifar.export.largest_difference", lambda *_: 0.0),
            ("ray.tune.report", lambda *_: None),
            ("raycifar.execution.plan.memory_bytes", lambda: 1e15),
        ):
            stack.enter_context(mock.patch(name, other))
        yield


class Folders:
    """The sound folders, once, and the places where each round has its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.storage, self.outside = root, root / "around" / "storage", root / "around" / "outside"
        self.sweep, self.search = root / "tiny.toml", root / "search.toml"
        self.sweep.write_text(SWEEP)
        self.search.write_text(SEARCH)
        os.environ["RAYCIFAR_CACHE"] = str(root / "cache")
        (root / "cache").mkdir()
        shutil.copy(SAMPLE, root / "cache" / "cifar10.safetensors")
        sound = f"--storage={root / 'sound'}"
        assert (
            called(
                lambda: run_sweep.main([str(self.sweep), "--local", "--gpus=0", sound, "--only=done", "--only=half"])
            )[0]
            == 0
        )
        assert called(lambda: run_sweep.main([str(self.search), "--gpus=0", sound]))[0] == 0
        assert called(lambda: analyze.main([str(root / "sound" / "tiny")]))[0] == 0
        half = root / "sound" / "tiny" / "half"
        for name in ("summary.json", "predictions.npz", "best.safetensors"):
            (half / name).unlink()
        shutil.rmtree(half / "checkpoint_000002")
        sample = root / "sound" / "search" / "sample-0002" / "sample.json"
        sample.write_text(json.dumps(json.loads(sample.read_text()) | {"outcome": None}))

    def hostile(self, rng: random.Random, command: str) -> None:
        """The storage as a stranger would hand it over."""
        shutil.rmtree(self.storage.parent, ignore_errors=True)
        canaries(self.outside)
        for name, sound in (("tiny", "tiny"), ("search", "search"), ("other", "tiny")):
            shutil.copytree(self.root / "sound" / sound, self.storage / name)
            stranger = Stranger(self.storage / name, self.outside, rng, AIMS.get(command, ""))
            for _ in range(rng.choice([1, 3, 10, 30, MOST_CHANGES])):
                stranger.change()

    def around(self) -> Seen:
        """All that lies beside the two folders, which alone may change."""
        return seen(self.outside) | dict.fromkeys(sorted(os.listdir(self.storage)), ())

    def commands(self) -> dict[str, Callable[[], int]]:
        tiny, search = str(self.storage / "tiny"), str(self.storage / "search")
        storage, local = f"--storage={self.storage}", ["--local", "--gpus=0"]
        return {
            "dry run": lambda: run_sweep.main([str(self.sweep), "--dry-run", *local, storage]),
            "resume": lambda: run_sweep.main([str(self.sweep), *local, storage]),
            "search": lambda: run_sweep.main([str(self.search), "--gpus=0", storage]),
            "search, dry run": lambda: run_sweep.main([str(self.search), "--dry-run", "--gpus=0", storage]),
            "analyze": lambda: analyze.main([tiny]),
            "analyze a search": lambda: analyze.main([search]),
            "analyze a trial": lambda: analyze.main([f"{tiny}/done"]),
            "side by side": lambda: analyze.main([tiny, str(self.root / "sound" / "tiny")]),
            "two hostile folders": lambda: analyze.main([tiny, str(self.storage / "other")]),
            "export": lambda: analyze.main([f"{tiny}/done", "--export"]),
            "load_model": lambda: _refused(lambda: raycifar.load_model(tiny)),
            "read_results": lambda: _refused(lambda: raycifar.read_results(tiny)),
        }


AIMS = {
    "analyze": "analysis",
    "side by side": "analysis",
    "two hostile folders": "analysis",
    "export": "analysis",
    "resume": "half",
    "search": "sample",
}


def _refused(call: Callable[[], object]) -> int:
    try:
        call()
    except ResultsError:
        return 2
    return 0


def called(command: Callable[[], int]) -> tuple[int, str]:
    """The exit status, and what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            status = command()
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 2
    interruption.start_anew()
    return status, printed.getvalue()


def fault(folders: Folders, name: str, seed: str) -> str:
    """What a command does wrong in the folder of this seed; "" for nothing."""
    folders.hostile(random.Random(seed), name)
    before = folders.around()
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)  # of this process: a busy machine is slow, not wrong
    alarm = threading.Timer(6 * PATIENCE, os.kill, (os.getpid(), signal.SIGUSR1))  # for what waits
    alarm.start()
    try:
        status, printed = called(folders.commands()[name])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        *_, ours = [f for f in traceback.extract_tb(error.__traceback__) if "raycifar/" in f.filename]
        return f"{type(error).__name__}: {error!s:.200} at {ours.filename}:{ours.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        alarm.cancel()
    after = folders.around()
    if before != after:
        return f"touched {sorted(set(before.items()) ^ set(after.items()))[:4]}"
    if status not in (0, 1, 2) or "Traceback" in printed:
        return f"status {status}: {printed[-300:]}"
    return ""


def _too_long(*_: object) -> None:
    raise TimeoutError(f"longer than {PATIENCE} s")


@contextlib.contextmanager
def folders() -> Iterator[Folders]:
    """The folders, with stand-ins at work and an alarm for what takes too long."""
    torch.set_num_threads(1)
    before = {number: signal.getsignal(number) for number in HANDLED}
    signal.signal(signal.SIGVTALRM, _too_long)
    signal.signal(signal.SIGUSR1, _too_long)
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with mock.patch.dict(os.environ), stand_ins():
        yield Folders(root)
    for number, handler in before.items():
        signal.signal(number, handler)
    shutil.rmtree(root, ignore_errors=True)


def main(seconds: float, seed: int) -> int:
    rounds, faults, until, number = Counter[str](), 0, time.monotonic() + seconds, 0
    with folders() as there:
        while time.monotonic() < until:
            name = list(there.commands())[number % len(there.commands())]
            one = f"{seed}/{number}"
            if wrong := fault(there, name, one):
                faults += 1
                print(f"FAULT {name} {one}: {wrong}", flush=True)
            rounds[name] += 1
            number += 1
    print(f"{number:,} folders in {seconds:g} s, seed {seed}, {faults} faults: ", dict(rounds))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns()))
