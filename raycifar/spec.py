"""What a sweep is: TOML -> SweepSpec, checked to the last key before anything starts.

A sweep file has `[defaults]`, from which every trial starts, and `[[trials]]`; nested tables merge. `repeats = 3`
turns the trial `transfer` into `transfer-1`, `transfer-2`, `transfer-3` with the seeds `seed`, `seed + 1`, `seed + 2`.
"""

import difflib
import hashlib
import json
import re
import reprlib
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

CIFAR10_TRAIN_IMAGES = 50_000
CIFAR10_TEST_IMAGES = 10_000
CLASSES = 10
# What else lies beside the trials' folders.
RESERVED_NAMES = frozenset({"analysis", "sweep.json", "sweep.lock", "invocations.json"})


class SpecError(Exception):
    """A sweep file, or a setting on the command line, is wrong. The message names place, value and remedy.

    It is one line, whatever keys and names the file holds: what cannot be printed is escaped.
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


_Model = TypeVar("_Model", bound=BaseModel)


class Table(BaseModel):
    """A table of the sweep file: unknown keys are refused, nothing is converted silently, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=10_000_000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Monitor = Literal["val_accuracy", "val_loss"]
# A name becomes a folder: short, and nothing that a shell or a file system treats specially.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
NAME_RULE = "a name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"
Name = Annotated[str, Field(pattern=NAME)]


class Model(Table):
    """VGG16 for 10 classes at 32x32."""

    weights: Literal["imagenet", "random"]
    batch_norm: bool = False
    hidden: Annotated[
        tuple[Count, ...], Field(strict=False)
    ] = ()  # the head's hidden layers; VGG16's own: (4096, 4096)
    dropout: Fraction = 0.0  # before each linear layer of the head
    # "all", "head", or a block: that block, those after it and the head.
    train: Literal["all", "block2", "block3", "block4", "block5", "head"] = "all"

    @model_validator(mode="after")
    def _imagenet_has_no_batch_norm(self) -> "Model":
        if self.weights == "imagenet" and self.batch_norm:
            raise ValueError('the ImageNet weights have no batch norm: batch_norm = false, or weights = "random"')
        return self


class Data(Table):
    """Which images train, validate and test. 0 means all there are."""

    validation: Literal["holdout", "train"] = "holdout"  # "train": the training images themselves, a leak
    holdout_images: Count = 5_000  # stratified, the same for every trial and seed
    train_images: Annotated[int, Field(ge=0)] = 0  # a stratified subset
    test_images: Annotated[int, Field(ge=0, le=CIFAR10_TEST_IMAGES)] = 0

    @model_validator(mode="after")
    def _fits(self) -> "Data":
        held_out = self.holdout_images if self.validation == "holdout" else 0
        if held_out + max(self.train_images, CLASSES) > CIFAR10_TRAIN_IMAGES:
            raise ValueError(
                f"holdout_images + train_images must not exceed CIFAR-10's {CIFAR10_TRAIN_IMAGES:,} training images"
            )
        if held_out % CLASSES or self.train_images % CLASSES or self.test_images % CLASSES:
            raise ValueError(f"a stratified number of images is a multiple of the {CLASSES} classes")
        return self

    @property
    def images(self) -> tuple[int, int, int]:
        """How many images train, validate and test."""
        held_out = self.holdout_images if self.validation == "holdout" else 0
        train = self.train_images or CIFAR10_TRAIN_IMAGES - held_out
        return train, held_out or train, self.test_images or CIFAR10_TEST_IMAGES


class Augmentation(Table):
    """Of the training images, a batch at a time."""

    crop: Annotated[int, Field(ge=0, le=16)] = 0  # pixels of reflect padding to crop from; 0 = none
    # "alternating" mirrors in each odd epoch exactly the images that it did not mirror in the epoch before.
    flip: Literal["none", "random", "alternating"] = "none"
    cutout: Annotated[int, Field(ge=0, le=32)] = 0  # side of a square painted with the mean; 0 = none


class Optimizer(Table):
    """Weight decay acts on weights, not on biases and batch norm."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.01  # the schedule's peak
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd
    nesterov: bool = True  # of sgd
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Optimizer":
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0: momentum = 0.9, or nesterov = false")
        return self


class Schedule(Table):
    """Of the learning rate: linear warm-up, then `name`. `cosine` and `linear` end at lr * final_ratio."""

    name: Literal["constant", "plateau", "linear", "cosine"] = "constant"
    warmup_epochs: NonNegative = 0.0
    final_ratio: Fraction = 0.0
    # plateau: lr *= factor after `patience` epochs without a better `monitor`, down to min_lr.
    monitor: Monitor = "val_loss"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Count = 3
    min_lr: NonNegative = 0.0


class EarlyStopping(Table):
    """The trial ends after `patience` epochs without a better `monitor`; 0 = never."""

    patience: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    monitor: Monitor = "val_loss"
    min_delta: NonNegative = 0.0


class Averaging(Table):
    """An exponential moving average of the weights, updated every step, is what gets validated and tested."""

    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0 = none


class TrialSettings(Table):
    """All that decides a trial's numbers, but for its seed."""

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    model: Model
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    early_stopping: EarlyStopping = EarlyStopping()
    averaging: Averaging = Averaging()
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    drop_last: bool = False  # leave out each epoch's last, smaller batch
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the device computes it natively
    deterministic: bool = False  # same machine, same numbers; slower on a GPU. A CPU is deterministic anyway

    @model_validator(mode="after")
    def _warmup_fits(self) -> "TrialSettings":
        warmup = self.schedule.warmup_epochs
        if warmup > 0 and warmup >= self.epochs:
            raise ValueError(f"schedule.warmup_epochs = {warmup} must be below epochs = {self.epochs}")
        return self

    @model_validator(mode="after")
    def _one_batch(self) -> "TrialSettings":
        if self.drop_last and self.data.images[0] < self.batch_size:
            raise ValueError(f"drop_last leaves no batch: {self.data.images[0]} images, batch_size = {self.batch_size}")
        return self


class TrialSpec(TrialSettings):
    """One trial of a sweep."""

    name: Name
    arm: Name  # the trials that differ only in their seed
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when the trial's numbers could."""
        return _digest(self.model_dump(mode="json", exclude={"name", "arm"}))


class SweepSpec(Table):
    """A named set of trials."""

    name: Name
    trials: Annotated[tuple[TrialSpec, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _names_differ(self) -> "SweepSpec":
        names = [trial.name.lower() for trial in self.trials]  # some file systems ignore case
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two trials are named {twice[0]!r} (a and A are one): give each [[trials]] its own name")
        if taken := sorted(RESERVED_NAMES.intersection(names)):
            raise ValueError(
                f"no trial may be named {taken[0]!r}: the sweep's folder has a file or folder of that name"
            )
        return self

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when a trial comes, goes or could give other numbers."""
        return _digest({trial.name: trial.fingerprint() for trial in self.trials})

    def only(self, names: Sequence[str]) -> "SweepSpec":
        """The sweep with the trials, or the arms, of these names alone (all for no names). Raises SpecError."""
        known = [trial.name for trial in self.trials] + [trial.arm for trial in self.trials]
        for name in names:
            if name not in known:
                there = ", ".join(dict.fromkeys(known))
                raise SpecError(f"--only {_short(name)}: no such trial{_nearest(name, known)}; there are {there}")
        chosen = tuple(trial for trial in self.trials if not names or trial.name in names or trial.arm in names)
        return self.model_copy(update={"trials": chosen})


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


class _TrialTable(TrialSettings):
    """A `[[trials]]` table, after the defaults have been merged into it."""

    name: Name
    repeats: Annotated[int, Field(ge=1, le=10_000)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    def expand(self, place: str) -> Iterator[TrialSpec]:
        settings = {key: getattr(self, key) for key in TrialSettings.model_fields}
        for i in range(self.repeats):
            name = f"{self.name}-{i + 1}" if self.repeats > 1 else self.name
            repeat = settings | {"name": name, "arm": self.name, "seed": self.seed + i}
            yield _validate(TrialSpec, repeat, f"{place}, repeat {i + 1}")


class _SweepFile(Table):
    """The top of a sweep file; `defaults` is checked only through the trials that it ends up in."""

    name: Name | None = None
    defaults: dict[str, Any] = {}
    trials: Annotated[list[dict[str, Any]], Field(min_length=1)]


def load_sweep(path: str | Path, settings: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file; `settings` are `key=value` for every trial, or `trial.key=value` for one.

    Raises SpecError naming file, trial, key, value and remedy.
    """
    path = Path(path)
    content = _read_toml(path)
    file = _validate(_SweepFile, content, str(path))
    _check_keys(file.defaults, _TrialTable, f"{path}: [defaults]")
    overrides = [_parse_setting(setting) for setting in settings]
    tables = [_merge(file.defaults, trial) for trial in file.trials]
    for keys, value, text in overrides:
        _override(tables, keys, value, text)
    place = " ".join([str(path), *(f"--set {_short(setting)}" for setting in settings)])
    trials = tuple(trial for i, table in enumerate(tables) for trial in _expand(table, f"{place}: {_label(table, i)}"))
    return _validate(SweepSpec, {"name": file.name or path.stem, "trials": trials}, place)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; see the examples in sweeps/") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); a sweep file is UTF-8 TOML") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text ({error}); a sweep file is UTF-8 TOML") from None
    except (ValueError, RecursionError) as error:  # ValueError also for a number of 5,000 digits
        raise SpecError(f"{path}: not valid TOML: {_short(str(error))}") from None


def _label(table: Mapping[str, Any], index: int) -> str:
    name = table.get("name")
    return f"trial {_shown(name)}" if isinstance(name, str) else f"[[trials]] number {index + 1}"


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _expand(table: dict[str, Any], place: str) -> Iterator[TrialSpec]:
    return _validate(_TrialTable, table, place).expand(place)


def _parse_setting(text: str) -> tuple[list[str], Any, str]:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        examples = "--set epochs=3 or --set scratch.optimizer.lr=0.05"
        raise SpecError(f"--set {_short(text)}: expected key=value, for example {examples}")
    try:
        table = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        table = {}
    parsed = table["value"] if len(table) == 1 else value.strip()  # a bare word is a string
    return key.split("."), parsed, _short(text)


def _override(tables: list[dict[str, Any]], keys: list[str], value: Any, text: str) -> None:
    chosen = [table for table in tables if table.get("name") == keys[0]] if len(keys) > 1 else []
    keys = keys[1:] if chosen else keys
    if not chosen and len(keys) > 1 and keys[0] not in _TrialTable.model_fields:
        known = [str(table.get("name")) for table in tables] + list(_TrialTable.model_fields)
        there = ", ".join(known[: len(tables)])
        raise SpecError(f"--set {text}: no trial {keys[0]!r}{_nearest(keys[0], known)}; the file's trials: {there}")
    if keys[0] == "name":
        raise SpecError(f"--set {text}: a trial's name is set in the sweep file only")
    for table in chosen or tables:
        inner = table
        for key in keys[:-1]:
            below = inner.get(key, {})
            inner[key] = dict(below) if isinstance(below, dict) else {}
            inner = inner[key]
        inner[keys[-1]] = value
        _check_keys(table, _TrialTable, f"--set {text}")


def _check_keys(table: Mapping[str, Any], model: type[BaseModel], place: str, above: str = "") -> None:
    """Refuse keys that the model does not know: pydantic alone would not look at defaults that no trial keeps."""
    for key, value in table.items():
        if key not in model.model_fields:
            raise SpecError(f"{place}: {above}{_short(key)}: {_unknown(key, model)}")
        inner = model.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _check_keys(value, inner, place, f"{above}{key}.")


def _validate(model: type[_Model], data: Any, place: str) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{place}: {_explain(error.errors()[0], model)}") from None


def _explain(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One line for pydantic's first error: key = value: what is wrong and what would be right."""
    key = ".".join(_short(str(part)) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key}: {_unknown(str(error['loc'][-1]), _table_at(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        remedy = (
            "a sweep file has at least one [[trials]]" if key == "trials" else "add it to the trial or to [defaults]"
        )
        return f"{key} is missing: {remedy}"
    if error["type"] == "value_error":
        return f"{key + ': ' if key else ''}{error['ctx']['error']}"
    return f"{key} = {_shown(error['input'])}: {_expected(key, error)}"


def _expected(key: str, error: Mapping[str, Any]) -> str:
    if key.endswith("name") and error["type"] in ("string_pattern_mismatch", "string_type"):
        return NAME_RULE
    if key.startswith("trials"):
        return "expected at least one [[trials]], in two pairs of brackets"
    if error["type"] in ("model_type", "dict_type"):
        return f"expected a table, for example {_EXAMPLES[key]}"
    if error["type"] == "tuple_type":
        return "expected a list, for example [4096, 4096]"
    return str(error["msg"]).removeprefix("Input ")


_EXAMPLES = {
    "defaults": "[defaults]",
    "model": 'model = { weights = "imagenet" }',
    "data": "data = { train_images = 3000 }",
    "augmentation": "augmentation = { crop = 4 }",
    "optimizer": "optimizer = { lr = 0.01 }",
    "schedule": 'schedule = { name = "cosine" }',
    "early_stopping": "early_stopping = { patience = 15 }",
    "averaging": "averaging = { ema_decay = 0.999 }",
}


def _shown(value: Any) -> str:
    """As TOML writes it, cut to a line's share."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print numbers beyond 4,300 digits
        return "a number of thousands of digits"


def _short(text: str) -> str:
    return text or "''" if len(text) <= 80 else f"{text[:40]}...{text[-20:]}"


def _table_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _unknown(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    return f"unknown key{_nearest(key, known)}; known here: {', '.join(known)}"


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def check_name(name: str, place: str) -> None:
    """Raises SpecError where `name` cannot name a folder of results."""
    if not re.fullmatch(NAME[1:-1], name):
        raise SpecError(f"{place} {name!a}: {NAME_RULE}")
