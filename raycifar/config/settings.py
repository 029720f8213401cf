"""The settings of a trial, with their limits and the rules between them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from raycifar.config import limits
from raycifar.config.architectures import ARCHITECTURES, PART
from raycifar.config.data import Data
from raycifar.config.datasets import Facts
from raycifar.config.names import Source
from raycifar.config.table import Count, Fraction, NonNegative, Positive, Table, Width

Monitor = Literal["val_accuracy", "val_loss", "val_balanced_accuracy", "val_macro_f1"]
BY_CLASS = ("val_balanced_accuracy", "val_macro_f1")  # in which each class counts alike, however many images it has


class Model(Table):
    """A network for the data set's classes and the size of its images."""

    name: str = "vgg16"  # of config.architectures, or of a library: "torchvision/resnet18", "timm/resnet18"
    source: Source = ""  # the user's own code, in place of a name: "mylab.nets:small", or an entry point
    weights: Literal["imagenet", "random"]
    # The ImageNet weights have no batch norm. It is added so that at first the network computes what it did without it
    # (Ioffe & Szegedy 2015; statistics of training images: Krähenbühl et al. 2016).
    batch_norm: bool = False
    hidden: Annotated[
        tuple[Width, ...], Field(strict=False, max_length=8, fail_fast=True)
    ] = ()  # the head's hidden layers; VGG16's own: (4096, 4096)
    dropout: Fraction = 0.0  # before each linear layer of the head
    # "all", "head", "block3" (that block, those after it and the head), or "last2" (so many blocks and the head).
    train: Annotated[str, Field(pattern=PART)] = "all"
    # The images' side times this, inside the network; 7 is ImageNet's 224. Costs its square (Kornblith et al. 2019).
    upsample: Literal[1, 2, 3, 4, 5, 6, 7] = 1
    side: Annotated[int, Field(ge=0, le=1_024)] = 0  # in pixels, that the network sees; 0: the images' own

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return limits.known_network(name)

    @property
    def called(self) -> str:
        """What the sweep file calls the network: by its name, or by the user's function that makes it."""
        return self.source or self.name

    def sees(self, side: int) -> int:
        """The side in pixels that the network sees of images of this side."""
        return self.side or side * self.upsample

    @model_validator(mode="after")
    def _suits_the_network(self) -> "Model":
        if not self.source:
            limits.check_weights(self.name, self.weights)
            limits.check_part(self.name, self.train)
            limits.check_enlarged(self.name, self.side, self.upsample, self.batch_norm)
        return self


class Augmentation(Table):
    """How the training images are augmented, a batch at a time."""

    crop: Annotated[int, Field(ge=0)] = 0  # pixels of reflect padding to crop from, half the side at most; 0 = none
    # "alternating" mirrors in each odd epoch exactly the images that it did not mirror in the epoch before.
    flip: Literal["none", "random", "alternating"] = "none"
    cutout: Annotated[int, Field(ge=0)] = 0  # side of a square painted with the mean; 0 = none
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
    """How the trained parameters learn. "Biases" include batch norm's scales and shifts."""

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
    """The learning rate's schedule: linear warm-up, then `name`. `cosine` and `linear` end at lr * final_ratio.

    Either of these two, after a warm-up of a third of the epochs, is the one-cycle schedule of Smith & Topin (2018).
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
    """Whether an average of the weights is validated and tested in the place of the weights themselves."""

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
    """All that decides a trial's numbers, except for its seed."""

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
    # "balanced": an image counts in the loss by the inverse of its class's number of training images, on average once.
    class_weights: Literal["none", "balanced"] = "none"
    monitor: Literal["val_accuracy", "val_balanced_accuracy", "val_macro_f1"] = "val_accuracy"  # chooses the best epoch
    drop_last: bool = False  # leave out each epoch's last, smaller batch
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the device computes it natively
    deterministic: bool = False  # same machine, same numbers; slower on a GPU. A CPU is deterministic anyway

    @property
    def measures_classes(self) -> bool:
        """Whether something reads what validation finds of each class."""
        stopping = self.early_stopping.monitor if self.early_stopping.patience else ""
        plateau = self.schedule.monitor if self.schedule.name == "plateau" else ""
        return any(monitor in BY_CLASS for monitor in (self.monitor, stopping, plateau))

    @model_validator(mode="after")
    def _warmup_fits(self) -> "TrialSettings":
        warmup = self.schedule.warmup_epochs
        if warmup > 0 and warmup >= self.epochs:
            raise ValueError(f"schedule.warmup_epochs = {warmup} must be below epochs = {self.epochs}")
        return self

    @model_validator(mode="after")
    def _own_code_stands_alone(self) -> "TrialSettings":
        limits.check_own_code(self.data.source, self.data.name, self.data.path, self.model.source, self.model.name)
        limits.check_own_network(self.model.source, self.model.weights, self.model.batch_norm)
        return self

    @model_validator(mode="after")
    def _muon_has_batch_norm(self) -> "TrialSettings":
        if self.optimizer.name == "muon" and self.model.name in ARCHITECTURES and not self.model.batch_norm:
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
    def _fits_the_data(self) -> "TrialSettings":
        if self.data.facts_if_known:
            check_data(self, self.data.facts)
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


def check_data(trial: TrialSettings, facts: Facts) -> None:
    """Raises ValueError where the settings do not suit the data set."""
    data, augmentation = trial.data, trial.augmentation
    limits.check_given(data.holdout_images, facts)
    limits.check_images(data.held_out, data.train_images, data.test_images, facts)
    limits.check_augmentation(augmentation.crop, augmentation.cutout, augmentation.flip, facts, data.mirror)
    limits.check_side(trial.model.called, trial.model.sees(facts.side), facts)
    if (trains := data.images[0]) < trial.batch_size:
        raise ValueError(
            f"batch_size = {trial.batch_size} must not exceed the {trains} images that train: "
            "lower it, or raise data.train_images"
        )
