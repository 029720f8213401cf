"""A trial and a sweep: settings with names and seeds, and the fingerprints that tell them apart."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from raycifar.config.data import PREPARED, Data
from raycifar.config.datasets import Facts
from raycifar.config.names import Name, SpecError, listed, short
from raycifar.config.settings import TrialSettings, check_data
from raycifar.config.table import Table
from raycifar.errors import nearest
from raycifar.storage.written import BESIDE_TRIALS

MOST_TRIALS = 10_000  # of a sweep
OWN_NAMES = "give each [[trials]] its own name"
# Settings that came when there were results already. At their defaults, which change no number, fingerprints leave
# them out.
LATER = {
    "model": ("name", "source", "upsample", "side"),
    "data": ("name", "source", "path", *PREPARED, "mirror", "split_seed"),
    "augmentation": ("policy", "mixup", "cutmix", "mix_probability"),
    "optimizer": ("muon_lr", "head_decay_ratio", "bias_decay_ratio", "head_lr_ratio", "layer_decay", "clip_norm"),
    "averaging": ("ema_recompute_batch_norm", "swa_epochs"),
}
_WORDS = {  # values as tables write them
    ("data.train_images", "0"): "all",
    ("data.test_images", "0"): "all",
    ("data.holdout_images", "null"): "a tenth",
}
LATER_BESIDE_TABLES = ("class_weights", "monitor")


class TrialSpec(TrialSettings):
    """One trial of a sweep."""

    name: Name
    arm: Name  # the trials that differ only in their seed
    seed: Annotated[int, Field(ge=0, lt=2**31)]

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when the trial's settings could give other numbers."""
        settings = self.model_dump(mode="json", exclude={"name": True, "arm": True, "data": {"measure_training"}})
        if self.data.path:  # where the images lie decides nothing, and which they are is told by their digest
            settings["data"]["path"] = self.data.own_name
        for table, keys in LATER.items():
            fields = type(getattr(self, table)).model_fields
            for key in keys:
                if settings[table][key] == fields[key].default:
                    del settings[table][key]
        for key in LATER_BESIDE_TABLES:
            if settings[key] == type(self).model_fields[key].default:
                del settings[key]
        return _digest(settings)

    @property
    def image_bytes(self) -> int:
        """What its images take as tensors on a device: those that train are there as they are, and padded for crops."""
        (train, val, test), side = self.data.images, self.data.facts.side
        plain = train + test + (val if self.data.validation == "holdout" else 0)
        padded = train if self.augmentation.crop else 0
        return 3 * (plain * side**2 + padded * (side + 2 * self.augmentation.crop) ** 2)

    def own_data(self) -> Data:
        """Its `data`, with the number that its split is drawn by."""
        return self.data.model_copy(update={"split_seed": self.seed}) if self.data.split_seed == "trial" else self.data

    def with_facts(self, facts: Facts) -> Self:
        """The same trial, of a data set of which this is known."""
        return self.model_copy(update={"data": self.data.with_facts(facts)})

    def settings(self) -> dict[str, str]:
        """What its arm's trials share: "optimizer.lr" and so on, with the value as JSON, or "all" images."""
        nested = self.model_dump(mode="json", exclude={"name", "arm", "seed"})
        flat = {f"{above}{key}": json.dumps(value) for above, key, value in _leaves(nested)}
        return {key: _WORDS.get((key, value), value) for key, value in flat.items()}


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above, key, value


class SweepSpec(Table):
    """A named set of trials."""

    name: Name
    trials: Annotated[tuple[TrialSpec, ...], Field(min_length=1, max_length=MOST_TRIALS, strict=False, fail_fast=True)]

    @model_validator(mode="after")
    def _names_differ(self) -> "SweepSpec":
        names = [trial.name.lower() for trial in self.trials]  # some file systems ignore case
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two trials are named {twice[0]!r} (a and A are one): {OWN_NAMES}")
        if reserved := sorted(filter(BESIDE_TRIALS.fullmatch, names)):
            raise ValueError(
                f"no trial may be named {reserved[0]!r}: the sweep's folder has a file or folder of that name"
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

    @model_validator(mode="after")
    def _one_source(self) -> "SweepSpec":
        first = self.trials[0].data.named_by
        for trial in self.trials:
            if (other := trial.data.named_by) != first:
                key, value = next(pair for pair in other if pair not in first)
                raise ValueError(
                    f"trial {trial.name!r}: {key} = {value!r}: all trials of a sweep share one data set: "
                    "make it a sweep of its own"
                )
        return self

    @property
    def data(self) -> Data:
        """The settings of the first trial's data; in all trials they name the same images."""
        return self.trials[0].data

    def with_facts(self, facts: Facts) -> Self:
        """The same sweep, of a data set of which this is known."""
        return self.model_copy(update={"trials": tuple(trial.with_facts(facts) for trial in self.trials)})

    def fingerprint(self) -> str:
        """Sixteen hex digits that change exactly when a trial comes, goes or could give other numbers."""
        return _digest({trial.name: trial.fingerprint() for trial in self.trials})

    def only(self, names: Sequence[str]) -> "SweepSpec":
        """The sweep with the trials, or the arms, of these names alone (all for no names). Raises SpecError."""
        known = [trial.name for trial in self.trials] + [trial.arm for trial in self.trials]
        for name in names:
            if name not in known:
                existing = listed(list(dict.fromkeys(known)))
                raise SpecError(f"--only {short(name)}: no such trial{nearest(name, known)}; there are {existing}")
        chosen = tuple(trial for trial in self.trials if not names or trial.name in names or trial.arm in names)
        return self.model_copy(update={"trials": chosen})


def checked(sweep: SweepSpec, facts: Facts) -> SweepSpec:
    """The sweep with what is known of its data set, once each trial suits that. Raises SpecError."""
    for trial in sweep.trials:
        checked_trial(trial, facts)
    return sweep.with_facts(facts)


def checked_trial(trial: TrialSpec, facts: Facts) -> TrialSpec:
    """As `checked`, for one trial."""
    informed = trial.with_facts(facts)
    try:
        check_data(informed, informed.data.facts)
    except ValueError as why:
        raise SpecError(f"trial {trial.name!r}: {why}") from None
    return informed


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
