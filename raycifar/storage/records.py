"""What a sweep leaves on disk: the contract between training and analysis.

::

    <storage>/<name>/                 SweepFolder
        sweep.json                    the resolved sweep file, its fingerprint, where it came from; what was read
        invocations.json              every call of run_sweep.py on this folder: when, how, on what
        sweep.lock                    held while a call runs
        <trial>/                      TrialFolder
            history.json              every finished epoch once, and the sessions that ran them
            summary.json              only once the trial has finished
            error.json                only while its last session ended in an error
            predictions.npz           of the test images, in test-set order: logits float32 (N, classes), labels int64
                                      (N,), and index int64 (N,): which of the official test images they are; of own
                                      images also groups int64 (N,), and near uint8 (N,): 1 where an image that trains
                                      or validates is nearly equal
            best.safetensors          the weights that were tested
            events.out.tfevents.*     for TensorBoard
            checkpoint_000012/        TrainState after epoch 12: state.pt, history.json, manifest.json

A person may add a `notes.md` to the sweep's folder: plain text that every report on these results shows (see
SweepFolder.notes). No call of run_sweep.py writes or changes it; --fresh moves it aside with the results.

All times are Unix seconds; all accuracies are fractions between 0 and 1; all losses are mean cross-entropies in nats.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Annotated, Any, NamedTuple, Self, get_args, get_origin


class JsonRecord:
    """A dataclass that is written as JSON and read again; unknown keys, of a newer version, are ignored."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record. Raises TypeError, AttributeError or ValueError where the data are not those of one."""
        kinds = _kinds(cls)  # type: ignore[arg-type]
        known: dict[str, Any] = {key: value for key, value in data.items() if key in kinds}
        for key, value in known.items():
            kind = kinds[key]
            if type(value) is kind.plain and kind.plain is not float:
                continue
            if kind.plain is not float or type(value) is not float or not kind.least <= value <= kind.most:
                _check(key, value, kind)
                if type(value) is int and kind.is_real:
                    known[key] = float(value)  # a column of 64-bit numbers has no room for 10**38
        return cls(**known)


class Bounds(NamedTuple):
    """The limits of a number in a file: `Annotated[float, Bounds(0, 1)]`."""

    least: float
    most: float


ANY_FLOAT32 = Bounds(-1e39, 1e39)  # of fields without limits of their own: no float32 is larger
SHARE = Bounds(0, 1)
UNIX_SECONDS = Bounds(0, 1e11)  # to the year 5138


class _Kind(NamedTuple):
    """What a field may hold."""

    annotation: Any  # without its bounds
    plain: type | None  # the type, where a look at the value's type is enough; else None
    least: float
    most: float
    is_real: bool  # a float, or None


@cache  # a thousand trials of 200 epochs ask 200,000 times
def _kinds(record: Any) -> dict[str, _Kind]:
    return {f.name: _kind(f.type) for f in fields(record)}


def _kind(annotation: Any) -> _Kind:
    bounds = ANY_FLOAT32
    if get_origin(annotation) is Annotated:
        annotation, bounds = get_args(annotation)
    is_real = float in (annotation, *get_args(annotation))
    return _Kind(annotation, annotation if annotation in (float, str, bool) else None, *bounds, is_real)


def _check(name: str, value: Any, kind: _Kind) -> None:
    if not _fits(value, kind.annotation):
        raise TypeError(f"{name} = {value!r:.60} should be of type {_named(kind.annotation)}")
    if type(value) in (int, float) and not kind.least <= value <= kind.most:
        raise ValueError(f"{name} = {value!r:.60} should lie between {kind.least:g} and {kind.most:g}")


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value from JSON has the annotated type; floats must be finite, and integers fit into 64 bits."""
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is list:
        return type(value) is list and all(_fits(item, inner[0]) for item in value)
    if outer is dict:
        return type(value) is dict and all(_fits(item, inner[1]) for item in value.values())
    if inner:
        return any(_fits(value, choice) for choice in inner)
    if annotation is float and type(value) in (int, float):
        return type(value) is int or math.isfinite(value)
    if annotation is int and type(value) is int:
        return abs(value) < 2**63
    return annotation is Any or type(value) is annotation


def _named(annotation: Any) -> str:
    """The annotation as it is written in Python."""
    return annotation.__name__ if type(annotation) is type else str(annotation)


@cache  # a sweep of a thousand trials asks this 200,000 times
def field_names(record: type[JsonRecord]) -> tuple[str, ...]:
    """The names of a record's fields, in order."""
    return tuple(f.name for f in fields(record))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord(JsonRecord):
    """One finished epoch of one trial. The training loss and accuracy are those of the augmented images.

    With mixup and CutMix the images are mixtures: the loss counts both labels by their shares, so it never reaches
    zero, and the right answer is the label of the larger share.
    """

    epoch: int  # counts from 1
    lr: float  # the schedule's, in the epoch's last step
    train_loss: float  # without label smoothing, so that it compares with val_loss
    train_accuracy: Annotated[float, SHARE]
    val_loss: float
    val_accuracy: Annotated[float, SHARE]
    train_seconds: float
    val_seconds: float
    checkpoint_seconds: float  # between the previous epoch's end and this one's start: saving and reporting it
    images_per_second: float  # training images over train_seconds
    finished_at: Annotated[float, UNIX_SECONDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(JsonRecord):
    """One uninterrupted stretch of a trial on one set of devices: a resumed trial has several."""

    started_at: Annotated[float, UNIX_SECONDS]  # the worker's entry, before data and weights are loaded
    ended_at: Annotated[float, UNIX_SECONDS]  # so far: the end of its last finished epoch, or of the test
    startup_seconds: float  # from started_at to the first training step
    first_epoch: int  # the first epoch that it trained
    host: str
    device: str  # "NVIDIA H200", or the CPU's model name
    device_kind: str  # "cuda" or "cpu"
    devices: list[str]  # one place a worker: "node:gpu index", or "node:cpu"
    threads: int  # CPU threads a worker
    precision: str = ""  # "bf16" or "fp32", as it ran; empty in files of an earlier version
    energy_joules: float | None = None  # of its devices, in its epochs, where they report it
    warnings: list[str] = field(default_factory=list)  # of what made it slower than it might have been


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
    best_val_accuracy: Annotated[float, SHARE]
    best_val_loss: float
    test_loss: float
    test_accuracy: Annotated[float, SHARE]
    # Of probabilities averaged over image and mirror image: a separate figure. None where a mirror image is of another
    # class.
    test_accuracy_flip: Annotated[float | None, SHARE]
    train_images: int
    val_images: int
    test_images: int
    parameters: int  # that train
    train_seconds: float
    val_seconds: float
    checkpoint_seconds: float
    startup_seconds: float  # of all sessions
    test_seconds: float
    finished_at: Annotated[float, UNIX_SECONDS]
    precision: str  # "bf16" or "fp32", as it ran
    workers: int
    versions: dict[str, str]
    # Of the tested weights on the training images, not augmented, where that was measured.
    plain_train_accuracy: Annotated[float | None, SHARE] = None
    plain_train_seconds: float = 0.0  # that measuring took


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialError(JsonRecord):
    """Why a trial's last session ended."""

    kind: str  # the exception's type
    message: str
    traceback: str
    at: Annotated[float, UNIX_SECONDS]


@dataclass(slots=True)
class History(JsonRecord):
    """Every finished epoch of a trial, in order and once, and the sessions that ran them."""

    epochs: list[EpochRecord] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """As JsonRecord.from_json; also ValueError where the epochs do not count 1, 2, 3 ..."""
        epochs = [EpochRecord.from_json(e) for e in data.get("epochs", [])]
        numbers = [epoch.epoch for epoch in epochs]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"its epochs should count 1, 2, 3 ..., they are {numbers!r:.60}")
        return cls(epochs, [Session.from_json(s) for s in data.get("sessions", [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation(JsonRecord):
    """One call of run_sweep.py. `ended_at` stays None while it runs, or when it was killed."""

    command: str
    started_at: Annotated[float, UNIX_SECONDS]
    ended_at: Annotated[float | None, UNIX_SECONDS] = None
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
    created_at: Annotated[float, UNIX_SECONDS]
    versions: dict[str, str]
    commit: str | None  # of this project, where it runs from a git checkout
    hardware: str
    weights: str = ""  # the cached file of the ImageNet weights; its name holds a digest where the user supplied it
    data: str = ""  # the SHA-256 of the images and labels; empty in files of an earlier version
    facts: dict[str, Any] = field(default_factory=dict)  # config.datasets.Facts; empty in files of an earlier version
    code: dict[str, str] = field(default_factory=dict)  # the SHA-256 of the user's modules that could run, by name
