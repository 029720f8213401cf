"""What a sweep is: its trials and their settings, with their limits and the rules between them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from raycifar.errors import InputError, nearest

CIFAR10_TRAIN_IMAGES = 50_000
CIFAR10_TEST_IMAGES = 10_000
CLASSES = 10
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Channels into and out of VGG16's convolutions by block, and the side of the images there, at 32 x 32.
BLOCKS = (
    (32, ((3, 64), (64, 64))),
    (16, ((64, 128), (128, 128))),
    (8, ((128, 256), (256, 256), (256, 256))),
    (4, ((256, 512), (512, 512), (512, 512))),
    (2, ((512, 512), (512, 512), (512, 512))),
)
# What else lies beside the trials' folders.
RESERVED_NAMES = frozenset({"analysis", "sweep.json", "sweep.lock", "invocations.json"})


class SpecError(InputError):
    """A sweep file, or a setting on the command line, is wrong. The message names place, value and remedy."""


class Table(BaseModel):
    """A table of the sweep file: unknown keys are refused, nothing is converted silently, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=10_000_000)]
Width = Annotated[int, Field(ge=1, le=16_384)]  # two layers so wide have a gigabyte of weights between them
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Monitor = Literal["val_accuracy", "val_loss"]
# A name becomes a folder: short, and nothing that a shell or a file system treats specially.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
OWN_NAMES = "give each [[trials]] its own name"
NAME_RULE = "a name is 1 to 64 letters, digits, '.', '_' or '-', and starts with a letter or digit"
Name = Annotated[str, Field(pattern=NAME)]


class Model(Table):
    """VGG16 for 10 classes at 32x32."""

    weights: Literal["imagenet", "random"]
    # With the ImageNet weights, which have none, it is added so that the network computes at first what it did without
    # (Ioffe & Szegedy 2015; statistics of training images: Krähenbühl et al. 2016).
    batch_norm: bool = False
    hidden: Annotated[
        tuple[Width, ...], Field(strict=False, max_length=8)
    ] = ()  # the head's hidden layers; VGG16's own: (4096, 4096)
    dropout: Fraction = 0.0  # before each linear layer of the head
    # "all", "head", or a block: that block, those after it and the head.
    train: Literal["all", "block2", "block3", "block4", "block5", "head"] = "all"
    # The images' side times this, inside the network; 7 is ImageNet's 224. Costs its square (Kornblith et al. 2019).
    upsample: Literal[1, 2, 3, 4, 5, 6, 7] = 1


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
            held = f"holdout_images = {held_out} + " if held_out else ""
            raise ValueError(
                f"{held}train_images = {self.train_images}: CIFAR-10 has {CIFAR10_TRAIN_IMAGES:,} training images, of "
                f"which at least {CLASSES} must train: lower them"
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
    policy: Literal["none", "trivial"] = "none"  # TrivialAugment, wide (Müller & Hutter 2021)
    # alpha of Beta(alpha, alpha), from which each image's own share is drawn; 0 = none.
    mixup: NonNegative = 0.0  # two images blended (Zhang et al. 2018)
    cutmix: NonNegative = 0.0  # a box of one image in another (Yun et al. 2019)
    mix_probability: Fraction = 1.0  # of an image to be mixed, by mixup or cutmix

    @model_validator(mode="after")
    def _one_mix(self) -> "Augmentation":
        if self.mixup and self.cutmix:
            both = f"mixup = {self.mixup} and cutmix = {self.cutmix}"
            raise ValueError(f"{both} exclude each other: mixup = 0, or cutmix = 0")
        return self


class Optimizer(Table):
    """Of all that is trained. "Biases" are those and batch norm's scales and shifts."""

    # "muon" is sgd, but for the convolutions' kernels after the first (Jordan et al. 2024).
    name: Literal["sgd", "adam", "adamw", "muon"] = "sgd"
    lr: Positive = 0.01  # the schedule's peak
    muon_lr: Positive = 0.01  # of muon: that of its kernels, as the share of a kernel's norm that a step moves
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd and muon
    nesterov: bool = True  # of sgd and muon
    weight_decay: NonNegative = 0.0  # of weights
    head_decay_ratio: NonNegative = 1.0  # the head's weight decay over the trunk's
    bias_decay_ratio: NonNegative = 0.0  # the biases' weight decay over the weights' (0: He et al. 2019)
    head_lr_ratio: Positive = 1.0  # the head's lr over the last convolution's (Howard & Ruder 2018)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # a convolution's lr over the next one's (Clark et al. 2020)
    clip_norm: NonNegative = 0.0  # most that the gradient's norm may be; 0 = no limit (Pascanu et al. 2013)

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Optimizer":
        if self.name in ("sgd", "muon") and self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0: momentum = 0.9, or nesterov = false")
        return self


class Schedule(Table):
    """Of the learning rate: linear warm-up, then `name`. `cosine` and `linear` end at lr * final_ratio.

    Either of the two after a warm-up of a third of the epochs is the learning rate of Smith & Topin's one-cycle (2018).
    """

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
    """An average of the weights is what gets validated and tested."""

    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # exponential, updated every step; 0 = none
    # Its batch norm's statistics come from a pass over the training images an epoch, instead of being averaged too.
    ema_recompute_batch_norm: bool = False
    # Plain mean of the last so many epochs' weights, batch norm always recomputed; 0 = none (Izmailov et al. 2018).
    swa_epochs: Annotated[int, Field(ge=0, le=100_000)] = 0

    @model_validator(mode="after")
    def _one_average(self) -> "Averaging":
        if self.ema_decay and self.swa_epochs:
            both = f"ema_decay = {self.ema_decay} and swa_epochs = {self.swa_epochs}"
            raise ValueError(f"{both} exclude each other: ema_decay = 0, or swa_epochs = 0")
        if self.ema_recompute_batch_norm and not self.ema_decay:
            raise ValueError("ema_recompute_batch_norm needs an average: set ema_decay, such as 0.999, or leave it out")
        return self


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
    def _muon_has_batch_norm(self) -> "TrialSettings":
        if self.optimizer.name == "muon" and not self.model.batch_norm:
            raise ValueError(
                'optimizer.name = "muon" keeps the norms of kernels, which only batch norm makes up for: '
                'set model.batch_norm = true, or optimizer.name = "sgd"'
            )
        return self

    @model_validator(mode="after")
    def _a_plateau_lowers_the_rate(self) -> "TrialSettings":
        low, lr = self.schedule.min_lr, self.optimizer.lr
        if self.schedule.name == "plateau" and low >= lr:
            raise ValueError(f"schedule.min_lr = {low} must be below optimizer.lr = {lr}, or no plateau lowers it")
        return self

    @model_validator(mode="after")
    def _one_batch(self) -> "TrialSettings":
        if self.data.images[0] < self.batch_size:
            raise ValueError(
                f"batch_size = {self.batch_size} must not exceed the {self.data.images[0]} images that train: "
                "lower it, or raise data.train_images"
            )
        return self

    @model_validator(mode="after")
    def _tail_is_reached(self) -> "TrialSettings":
        tail = self.averaging.swa_epochs
        if tail > self.epochs:
            raise ValueError(f"averaging.swa_epochs = {tail} must not exceed epochs = {self.epochs}")
        if tail and self.early_stopping.patience:
            raise ValueError(
                f"averaging.swa_epochs = {tail} and early_stopping.patience = {self.early_stopping.patience} exclude "
                "each other, as the last epochs may not be reached: swa_epochs = 0, or patience = 0"
            )
        return self


# Settings that came when there were results already. At their defaults, which change no number, fingerprints leave
# them out.
LATER = {
    "model": ("upsample",),
    "augmentation": ("policy", "mixup", "cutmix", "mix_probability"),
    "optimizer": ("muon_lr", "head_decay_ratio", "bias_decay_ratio", "head_lr_ratio", "layer_decay", "clip_norm"),
    "averaging": ("ema_recompute_batch_norm", "swa_epochs"),
}


class TrialSpec(TrialSettings):
    """One trial of a sweep."""

    name: Name
    arm: Name  # the trials that differ only in their seed
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when the trial's settings could give other numbers."""
        settings = self.model_dump(mode="json", exclude={"name", "arm"})
        for table, keys in LATER.items():
            fields = type(getattr(self, table)).model_fields
            for key in keys:
                if settings[table][key] == fields[key].default:
                    del settings[table][key]
        return _digest(settings)

    def settings(self) -> dict[str, str]:
        """What its arm's trials share: "optimizer.lr" and so on, with the value as JSON, or "all" images."""
        nested = self.model_dump(mode="json", exclude={"name", "arm", "seed"})
        flat = {f"{above}{key}": json.dumps(value) for above, key, value in _leaves(nested)}
        return flat | {key: "all" for key in ("data.train_images", "data.test_images") if flat[key] == "0"}


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above, key, value


class SweepSpec(Table):
    """A named set of trials."""

    name: Name
    trials: Annotated[tuple[TrialSpec, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _names_differ(self) -> "SweepSpec":
        names = [trial.name.lower() for trial in self.trials]  # some file systems ignore case
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two trials are named {twice[0]!r} (a and A are one): {OWN_NAMES}")
        if taken := sorted(RESERVED_NAMES.intersection(names)):
            raise ValueError(
                f"no trial may be named {taken[0]!r}: the sweep's folder has a file or folder of that name"
            )
        return self

    @model_validator(mode="after")
    def _an_arm_is_one_recipe(self) -> "SweepSpec":
        first: dict[str, TrialSpec] = {}
        seeds: set[tuple[str, int]] = set()
        for trial in self.trials:
            base = first.setdefault(trial.arm, trial)
            if trial.model_copy(update={"name": base.name, "seed": base.seed}) != base:
                theirs = base.settings()
                key = next(key for key, value in trial.settings().items() if value != theirs[key])
                raise ValueError(f"two [[trials]] are named {trial.arm!r} and differ in {key}: {OWN_NAMES}")
            if (trial.arm, trial.seed) in seeds:
                raise ValueError(f"two trials of {trial.arm!r} have the seed {trial.seed}: set another in one of them")
            seeds.add((trial.arm, trial.seed))
        return self

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when a trial comes, goes or could give other numbers."""
        return _digest({trial.name: trial.fingerprint() for trial in self.trials})

    def only(self, names: Sequence[str]) -> "SweepSpec":
        """The sweep with the trials, or the arms, of these names alone (all for no names). Raises SpecError."""
        known = [trial.name for trial in self.trials] + [trial.arm for trial in self.trials]
        for name in names:
            if name not in known:
                there = listed(list(dict.fromkeys(known)))
                raise SpecError(f"--only {short(name)}: no such trial{nearest(name, known)}; there are {there}")
        chosen = tuple(trial for trial in self.trials if not names or trial.name in names or trial.arm in names)
        return self.model_copy(update={"trials": chosen})


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def check_name(name: str, place: str) -> None:
    """Raises SpecError where `name` cannot name a folder of results."""
    if not re.fullmatch(NAME[1:-1], name):
        raise SpecError(f"{place} {name[:80]!a}: {NAME_RULE}")


def short(text: str) -> str:
    return text or "''" if len(text) <= 80 else f"{text[:40]}...{text[-20:]}"


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(short(name) for name in names[:10]) + more
