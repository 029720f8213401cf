"""`[defaults.data]`: which images a sweep is about, how they are stored, and which of them train, validate and test."""

import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from raycifar.config import limits
from raycifar.config.datasets import BORDERS, BUILT_IN, Border, Facts
from raycifar.config.names import Source
from raycifar.config.published import BUILT_IN_AS, PUBLISHED
from raycifar.config.table import Count, Table

OWN_SIDE = 64  # pixels a side of the user's own images, unless the sweep file says otherwise
OWN_TEST = 0.2  # the share of them that tests, where neither folders nor a column say which do
BY_NAME = "name:"  # begins a pattern of file names
# What decides, beside their files, which of the user's images, or of torchvision's, are stored and how.
PREPARED = ("side", "resize", "test", "groups", "corrupt", "duplicates")


class Data(Table):
    """Which images train, validate and test. 0 means all there are."""

    name: str = "cifar10"
    source: Source = ""  # the user's own code, in place of a name: "mylab.data:leaves", or an entry point
    path: str = ""  # of the user's own images, in place of a name; from the sweep file's folder on
    # How the user's own images are stored and cut; what is None depends on what there is (docs/own-images.md).
    side: Annotated[int, Field(ge=8, le=1_024)] | None = None  # in pixels; images are stored square
    resize: Literal["crop", "squeeze", "pad"] = "crop"
    test: Annotated[float, Field(gt=0, lt=1)] | None = None  # the share that tests, where nothing says which do
    groups: str = ""  # images that no two splits share: a column of labels.csv, or a pattern as 'name:^(P\d+)_'
    corrupt: Literal["refuse", "skip"] = "refuse"  # files that cannot be read
    duplicates: Literal["refuse", "drop"] = "refuse"  # images equal pixel by pixel that two splits might share
    mirror: bool | None = None  # whether a mirrored image keeps its label
    validation: Literal["holdout", "train"] = "holdout"  # "train": the training images themselves, a leak
    holdout_images: Count | None = None  # a tenth; stratified, the same for every trial and seed
    train_images: Annotated[int, Field(ge=0)] = 0  # a stratified subset
    test_images: Annotated[int, Field(ge=0)] = 0
    # Which training images are held out, and which make a subset: 0 is the split of all earlier results; "trial" draws
    # it anew for each trial, by the trial's seed (Bouthillier et al. 2021).
    split_seed: Annotated[int, Field(ge=0, lt=2**31)] | Literal["trial"] = 0
    # At a trial's end, one pass of the tested weights over the training images as they are: it changes no other number.
    measure_training: bool = True
    _facts: Facts | None = PrivateAttr(None)

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name in BUILT_IN_AS:
            raise ValueError(f"{name!r} is built in: name = {BUILT_IN_AS[name]!r}")
        return limits.known_data(name)

    @field_validator("side")
    @classmethod
    def _has_rows_of_eight_bytes(cls, side: int | None) -> int | None:
        if side and side % 8:
            raise ValueError(f"{side}: expected a multiple of 8, such as {8 * round(side / 8)}")
        return side

    @field_validator("groups")
    @classmethod
    def _is_a_pattern(cls, groups: str) -> str:
        try:
            pattern = re.compile(groups.removeprefix(BY_NAME)) if groups.startswith(BY_NAME) else None
        except re.error as why:
            raise ValueError(f"{groups!r:.80} is no pattern ({why}): for example 'name:^(P\\d+)_'") from None
        if pattern and pattern.groups != 1:
            raise ValueError(f"{groups!r:.80}: put what names the group in one pair of brackets: 'name:^(P\\d+)_'")
        return groups

    @model_validator(mode="before")
    @classmethod
    def _a_tenth_is_held_out(cls, data: Any) -> Any:
        """Of what is built in, that is a number; of other images it is one once they have been read."""
        if (
            not isinstance(data, dict)
            or data.get("path")
            or data.get("source")
            or data.get("holdout_images") is not None
        ):
            return data
        facts = BUILT_IN.get(str(data.get("name", "cifar10")))
        return data | {"holdout_images": facts.train_images // 10} if facts else data

    @model_validator(mode="after")
    def _is_one_source(self) -> "Data":
        if self.path and self.name != "cifar10":
            raise ValueError(f"name = {self.name!r} and path = {self.path!r:.80} exclude each other: keep one of them")
        return self

    @property
    def named_by(self) -> tuple[tuple[str, Any], ...]:
        """The settings that name the images, with their values: the same in all trials of a sweep."""
        key = "path" if self.path else "source" if self.source else "name"
        keys = (key, *PREPARED) if self.is_prepared else (key,)
        return tuple((f"data.{key}", getattr(self, key)) for key in (*keys, "mirror"))

    @property
    def is_built_in(self) -> bool:
        """Whether all is known of the images before they are read."""
        return self.name in BUILT_IN and not (self.path or self.source)

    @property
    def is_published(self) -> bool:
        """Whether they are a data set of torchvision."""
        return self.name in PUBLISHED and not (self.path or self.source)

    @property
    def is_prepared(self) -> bool:
        """Whether they are image files of any kind, decoded and cut by the settings of PREPARED."""
        return bool(self.path) or self.is_published

    @property
    def border(self) -> Border | None:
        """What is stored around each image; None: nothing, as around all but MNIST's kin."""
        if self.is_published:
            return PUBLISHED[self.name].border
        return BORDERS.get(self.name) if self.is_built_in else None

    @property
    def own_name(self) -> str:
        """What images that are not built in are called: as their folder or file, or as they were published."""
        return PUBLISHED[self.name].title if self.is_published else PurePath(self.path).name

    @property
    def facts_name(self) -> str:
        """The name of what is not built in, marked: a folder or a function may be called cifar10, too."""
        if self.is_published:
            return self.name
        return f"source:{self.source}" if self.source else f"path:{self.own_name}"

    def __eq__(self, other: object) -> bool:
        """Whether the settings are the same, whatever is known of the data set."""
        return isinstance(other, Data) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    @property
    def facts_if_known(self) -> Facts | None:
        """What is known of the data set; None before data that is not built in has been read (see `with_facts`)."""
        facts = self._facts or (None if self.path or self.source else BUILT_IN.get(self.name))
        return facts.model_copy(update={"mirror": self.mirror}) if facts and self.mirror is not None else facts

    @property
    def facts(self) -> Facts:
        """What is known of the data set. Raises LookupError where it has not been read yet."""
        if (facts := self.facts_if_known) is None:
            raise LookupError(f"{self.named_by}: nothing is known of these images before they have been read")
        return facts

    def with_facts(self, facts: Facts) -> "Data":
        """The same settings, of a data set of which this is known."""
        data = self.model_copy()
        data._facts = facts
        return data

    def share_held_out(self, images: int) -> int:
        """How many of so many training images are asked to validate: a tenth, unless a number is set."""
        return self.holdout_images or max(1, images // 10)

    def folds_held_out(self, folds: int, images: int) -> list[int]:
        """Which of the folds that whole groups were dealt into validate: as near to the share asked for as they get.

        The seed says from which fold on. Without its number ("trial") this is the split of a seed of 0.
        """
        count = min(folds - 1, max(1, round(self.share_held_out(images) * folds / images)))
        first = self.split_seed if isinstance(self.split_seed, int) else 0
        return [(first + fold) % folds for fold in range(count)]

    @property
    def held_out(self) -> int:
        """How many of the training images validate and do not train; where `val` is given, those are others."""
        if self.validation != "holdout":
            return 0
        facts = self.facts_if_known
        if facts and facts.val:
            return 0
        if facts and facts.folds:
            return sum(facts.folds[fold] for fold in self.folds_held_out(len(facts.folds), facts.train_images))
        return self.share_held_out(facts.train_images if facts else 0)

    @property
    def draws_training(self) -> bool:
        """Whether the images that train are a part of all: then `split_seed` says which part."""
        facts = self.facts_if_known
        given = facts is not None and bool(facts.val)
        return (self.validation == "holdout" and not given) or self.train_images > 0

    @property
    def split_varies(self) -> bool:
        """Whether each trial of an arm trains and validates on images of its own draw."""
        return self.split_seed == "trial" and self.draws_training

    @property
    def images(self) -> tuple[int, int, int]:
        """How many images train, validate and test."""
        facts = self.facts
        train = self.train_images or facts.train_images - self.held_out
        given = sum(facts.val) if self.validation == "holdout" else 0
        return train, given or self.held_out or train, self.test_images or facts.test_images
