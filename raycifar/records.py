"""What a sweep leaves on disk: the contract between those who train and those who analyse.

::

    <storage>/<name>/                 SweepFolder
        sweep.json                    the resolved sweep file, its fingerprint, where it came from
        invocations.json              every call of run_sweep.py on this folder: when, how, on what
        sweep.lock                    held while a call runs
        <trial>/                      TrialFolder
            history.json              every finished epoch once, and the sessions that ran them
            summary.json              only once the trial has finished
            error.json                only while its last session ended in an error
            predictions.npz           logits float32 (N, 10) and labels int64 (N,) of the test images, in test-set order
            best.safetensors          the weights that were tested
            checkpoint_000012/        TrainState after epoch 12: state.pt, history.json, manifest.json

All times are Unix seconds; all accuracies are fractions between 0 and 1; all losses are mean cross-entropies in nats.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar


class RecordError(Exception):
    """A file of a sweep's folder cannot be read as what it should be; the message names the file."""


class JsonRecord:
    """A dataclass that goes to JSON and back; unknown keys (of a newer version) are ignored."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in data.items() if key in known})


_Record = TypeVar("_Record", bound=JsonRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord(JsonRecord):
    """One finished epoch of one trial. Its training figures are of the augmented images, as they were learnt."""

    epoch: int  # counts from 1
    lr: float  # of the epoch's last step
    train_loss: float  # without label smoothing, so that it compares with val_loss
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    train_seconds: float
    val_seconds: float
    checkpoint_seconds: float  # between the previous epoch's end and this one's start: saving and reporting it
    images_per_second: float  # training images over train_seconds
    finished_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(JsonRecord):
    """One uninterrupted stretch of a trial on one set of devices: a resumed trial has several."""

    started_at: float  # the worker's entry, before data and weights are loaded
    ended_at: float  # so far: the end of its last finished epoch, or of the test
    startup_seconds: float  # from started_at to the first training step
    first_epoch: int  # the first epoch that it trained
    host: str
    device: str  # "NVIDIA H200", or the CPU's model name
    device_kind: str  # "cuda" or "cpu"
    devices: list[str]  # one place a worker: "node:gpu index", or "node:cpu"
    threads: int  # CPU threads a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSummary(JsonRecord):
    """A finished trial. The best epoch's weights were tested once, after training."""

    trial: str
    arm: str
    seed: int
    fingerprint: str
    validation: str  # "holdout", or "train": measured on the training images
    epochs_planned: int
    epochs_run: int
    stopped_early: bool
    best_epoch: int
    best_val_accuracy: float
    best_val_loss: float
    test_loss: float
    test_accuracy: float
    test_accuracy_flip: float  # probabilities averaged over image and mirror image; a separate figure
    train_images: int
    val_images: int
    test_images: int
    parameters: int  # that train
    train_seconds: float
    val_seconds: float
    checkpoint_seconds: float
    startup_seconds: float  # of all sessions
    test_seconds: float
    finished_at: float
    precision: str  # "bf16" or "fp32", as it ran
    workers: int
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialError(JsonRecord):
    """Why a trial's last session ended."""

    kind: str  # the exception's type
    message: str
    traceback: str
    at: float


@dataclass(slots=True)
class History(JsonRecord):
    """Every finished epoch of a trial, in order and once, and the sessions that ran them."""

    epochs: list[EpochRecord] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            [EpochRecord.from_json(e) for e in data.get("epochs", [])],
            [Session.from_json(s) for s in data.get("sessions", [])],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation(JsonRecord):
    """One call of run_sweep.py. `ended_at` stays None while it runs, or when it was killed."""

    command: str
    started_at: float
    ended_at: float | None = None
    exit_status: int | None = None
    gpus: int = 0
    trials_at_once: int = 1
    runner: str = "ray"  # or "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecord(JsonRecord):
    """What `sweep.json` holds."""

    name: str
    fingerprint: str
    spec: dict[str, Any]  # SweepSpec.model_validate() reads it
    source: str  # the sweep file, as it was named
    created_at: float
    versions: dict[str, str]
    commit: str | None  # of this project, where it runs from a git checkout
    hardware: str
    weights: str = ""  # the cached file of the ImageNet weights; its name holds a digest where the user supplied it


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside, flush and rename: a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:  # a full disk, Ctrl-C
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, data: Any) -> None:
    """As write_bytes. Raises TypeError for what is no JSON."""
    write_bytes(path, json.dumps(data, indent=1).encode())


def read_json(path: Path) -> Any:
    """Raises RecordError naming the file where it is no JSON, and FileNotFoundError where there is none."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, an absurd number, absurdly deep
        raise RecordError(f"{path}: not valid JSON ({error})") from error


def _read_record(path: Path, record: type[_Record]) -> _Record | None:
    try:
        return record.from_json(read_json(path))
    except FileNotFoundError:
        return None
    except (TypeError, AttributeError, KeyError) as error:
        raise RecordError(f"{path}: not a {record.__name__} ({error})") from error


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """The paths of one trial, and their reading and writing."""

    path: Path

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.npz"

    @property
    def best_weights(self) -> Path:
        return self.path / "best.safetensors"

    def history(self) -> History:
        return _read_record(self.path / "history.json", History) or History()

    def summary(self) -> TrialSummary | None:
        return _read_record(self.path / "summary.json", TrialSummary)

    def error(self) -> TrialError | None:
        return _read_record(self.path / "error.json", TrialError)

    def write_history(self, history: History) -> None:
        write_json(self.path / "history.json", history.to_json())

    def write_summary(self, summary: TrialSummary) -> None:
        write_json(self.path / "summary.json", summary.to_json())

    def write_error(self, error: TrialError) -> None:
        """Unless one is there: where several processes of a session fail, the first one's error is the cause."""
        if self.error() is None:
            write_json(self.path / "error.json", error.to_json())

    def clear_error(self) -> None:
        (self.path / "error.json").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """The paths of one sweep, and their reading and writing."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "sweep.lock"

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.path / name)

    def record(self) -> SweepRecord | None:
        return _read_record(self.path / "sweep.json", SweepRecord)

    def write_record(self, record: SweepRecord) -> None:
        write_json(self.path / "sweep.json", record.to_json())

    def invocations(self) -> list[Invocation]:
        try:
            return [Invocation.from_json(i) for i in read_json(self.path / "invocations.json")]
        except FileNotFoundError:
            return []
        except (TypeError, AttributeError) as error:
            raise RecordError(f"{self.path / 'invocations.json'}: not a list of calls ({error})") from error

    def write_invocations(self, invocations: list[Invocation]) -> None:
        write_json(self.path / "invocations.json", [i.to_json() for i in invocations])
