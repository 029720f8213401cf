"""What a search is: `[search]` beside a sweep file's only trial -> SearchSpec, checked to the corners of its space.

::

    [search]
    samples = 16                    # drawn by Optuna; each is the trial with other settings
    seed = 1                        # of the draws
    grace_epochs = 1                # ASHA stops the worse of them after this many epochs, and again after
    reduction = 3                   # three times as many, nine times as many ...: about one in three goes on

    [search.space]
    optimizer.lr = { loguniform = [1e-3, 1e-1] }
    augmentation.cutout = { choice = [0, 8, 12] }

The objective is not to be chosen: it is the best validation accuracy so far, of held-out images.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, model_validator

from raycifar.config.names import Name, SpecError, short
from raycifar.config.needs import NEEDS
from raycifar.config.settings import TrialSettings
from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.config.sweep_file import parse_setting, parse_sweep, read_toml, shown, validate
from raycifar.config.table import Table
from raycifar.errors import nearest
from raycifar.search.records import MOST_SAMPLES

Plain = bool | int | float | str
KINDS = ("choice", "uniform", "loguniform", "int")
EXAMPLE = "{ loguniform = [1e-3, 1e-1] }"
MOST_SETTINGS = 16
BEYOND = 1e15  # any number that a setting may be; neither infinity nor nan is below it
TIED = 3  # no rule of spec.py ties more settings to each other
OBJECTIVE_WORDS = ("objective", "metric", "monitor", "mode", "test")
ALWAYS = "the objective is always the validation accuracy, and a search never reads the test images: leave it out"
LUCK = "the luckiest seed is no finding: search with one, then repeat the best settings with several"
NOT_SEARCHED = {
    "epochs": "samples are compared after as many epochs of the same schedule: set the trial's",
    "data": "samples are compared on the same images, and the test images are never read in a search: set the trial's",
    "early_stopping": "ASHA stops the samples that fall behind: leave it out",
    "precision": "it decides how fast a device is, not how accurate the network: set the trial's",
    "deterministic": "it decides no accuracy: set the trial's",
    "model.weights": "transfer and scratch are the arms that a sweep compares: search one of them",
    "seed": LUCK,
    "repeats": LUCK,
    "name": "samples are named sample-0001, sample-0002, ...: leave it out",
}


class Range(Table):
    """What one setting may be: one of `values`, or a number between the two, both included."""

    kind: Literal["choice", "uniform", "loguniform", "int"]
    values: Annotated[tuple[Plain, ...], Field(strict=False, min_length=2)]

    @property
    def extremes(self) -> tuple[Plain, ...]:
        """The values at which a rule could break: the ends of numbers, and every word and switch."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(self.values):
            return self.values
        return min(numbers), max(numbers)

    def __str__(self) -> str:
        return f"{self.kind} [{', '.join(_toml(value) for value in self.values)}]"


class _Settings(Table):
    """The [search] table, but for its space."""

    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1  # of the draws
    grace_epochs: Annotated[int, Field(ge=1, le=100_000)] = 1
    reduction: Annotated[int, Field(ge=2, le=100)] = 3


class SearchSpec(_Settings):
    """A named search around one trial. It is no SweepSpec: nothing that tests a trial takes it."""

    name: Name
    trial: TrialSpec
    space: dict[str, Range]

    @model_validator(mode="after")
    def _compares(self) -> "SearchSpec":
        if self.trial.data.validation != "holdout":
            raise ValueError('a search needs images that do not train: data.validation = "holdout"')
        if self.trial.early_stopping.patience:
            raise ValueError(f"early_stopping.patience = {self.trial.early_stopping.patience}: ASHA stops the samples")
        if self.grace_epochs > self.trial.epochs:
            raise ValueError(
                f"search.grace_epochs = {self.grace_epochs} must not exceed epochs = {self.trial.epochs} "
                "(as many runs every sample to its end)"
            )
        return self

    def sample(self, settings: Mapping[str, Plain], name: str = "sample", place: str = "a sample") -> TrialSpec:
        """The trial with these settings of the space, whose keys are dotted. Raises SpecError."""
        data = self.trial.model_dump(mode="json") | {"name": name, "arm": name}
        for key, value in settings.items():
            *tables, last = key.split(".")
            inner = data
            for table in tables:
                inner = inner[table]
            inner[last] = value
        sample, facts = validate(TrialSpec, data, place), self.trial.data.facts_if_known
        return sample.with_facts(facts) if facts else sample

    def corners(self, place: str) -> Iterator[TrialSpec]:
        """The trial at every value that could break a rule, then wherever such values of several settings meet."""
        for key, allowed in self.space.items():
            for value in allowed.values:
                yield self.sample({key: value}, place=place)
        for keys in itertools.combinations(self.space, min(TIED, len(self.space))):
            for values in itertools.product(*(self.space[key].extremes for key in keys)):
                both = ", ".join(f"{key} = {_toml(value)}" for key, value in zip(keys, values, strict=True))
                yield self.sample(dict(zip(keys, values, strict=True)), place=f"{place} with {both}")

    @property
    def asks(self) -> dict[str, Any]:
        """What must not change while samples are drawn; their number may, and so may the names."""
        asked = self.model_dump(mode="json", exclude={"name", "samples"})
        asked["trial"] = self.trial.fingerprint()
        return asked


def load_search(path: str | Path, settings: Sequence[str] = ()) -> SearchSpec | None:
    """Read a sweep file that has [search], or return None; `settings` as for load_sweep, or `search.key=value`.

    Raises SpecError naming file, key, value and remedy.
    """
    path = Path(path)
    content = read_toml(path)
    if "search" not in content:
        return None
    own = [text for text in settings if text.startswith("search.")]
    sweep = parse_sweep(content, path, [text for text in settings if text not in own])
    table = dict(content["search"])
    for text in own:
        _override(table, text)
    place = " ".join([str(path), *(f"--set {text}" for text in own)])
    return _search(table, sweep, place)


def _override(table: dict[str, Any], text: str) -> None:
    keys, value, _ = parse_setting(text)
    for key in keys[1:-1]:
        below = table.get(key, {})
        table[key] = dict(below) if isinstance(below, dict) else {}
        table = table[key]
    table[keys[-1]] = value


def _search(table: dict[str, Any], sweep: SweepSpec, place: str) -> SearchSpec:
    for key in table:
        if any(word in key.lower() for word in OBJECTIVE_WORDS):
            raise SpecError(f"{place}: [search] {key}: {ALWAYS}")
    space = table.pop("space", None)
    settings = validate(_Settings, table, f"{place}: [search]")
    if not isinstance(space, dict) or not space:
        raise SpecError(f"{place}: [search.space] is missing or empty: add for example optimizer.lr = {EXAMPLE}")
    if len(sweep.trials) > 1:
        raise SpecError(f"{place}: a search starts from one trial, here are {len(sweep.trials)}: keep one, no repeats")
    there = f"{place}: [search.space]"
    ranges = dict(_ranges(space, TrialSettings, there))
    if not ranges:
        raise SpecError(f"{there} names no setting: add for example optimizer.lr = {EXAMPLE}")
    if len(ranges) > MOST_SETTINGS:
        raise SpecError(f"{there}: {len(ranges)} settings, at most {MOST_SETTINGS}: leave out those that matter least")
    data = settings.model_dump() | {"name": sweep.name, "trial": sweep.trials[0], "space": ranges}
    search = validate(SearchSpec, data, place)
    _check_corners(search, there)
    return search


def _check_corners(search: SearchSpec, place: str) -> None:
    """Refuse what breaks a rule in one, and what decides nothing in all: a best value of it would be no finding."""
    idle = [key for key in search.space if key in NEEDS]
    for trial in search.corners(place):
        idle = [key for key in idle if not NEEDS[key][0](trial)]
    if idle:
        key, (_, need) = idle[0], NEEDS[idle[0]]
        raise SpecError(f"{place} {key}: decides nothing without {need}: set that in the trial, or leave {key} out")


def _ranges(
    table: Mapping[str, Any], model: type[BaseModel], place: str, above: str = ""
) -> Iterator[tuple[str, Range]]:
    """Each setting of the space by its dotted key."""
    for key, value in table.items():
        name = f"{above}{short(key)}"
        if name in NOT_SEARCHED:
            raise SpecError(f"{place} {name}: {NOT_SEARCHED[name]}")
        if "." in key:
            raise SpecError(f"{place} {name!r}: leave out the quotes: {name} = {EXAMPLE}")
        if key not in model.model_fields:
            known = list(model.model_fields)
            raise SpecError(f"{place} {name}: unknown key{nearest(key, known)}; known here: {', '.join(known)}")
        inner = model.model_fields[key].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            yield name, _range(value, f"{place} {name}", get_args(inner) if get_origin(inner) is Literal else ())
        elif isinstance(value, dict):
            yield from _ranges(value, inner, place, f"{name}.")
        else:
            raise SpecError(
                f"{place} {name}: a table of settings: search one, as {name}.{next(iter(inner.model_fields))}"
            )


def _range(value: Any, place: str, words: tuple[Plain, ...]) -> Range:
    """`words` are all values that the setting can have, where they can be counted."""
    if not isinstance(value, dict) or len(value) != 1:
        raise SpecError(f"{place}: expected one of {', '.join(KINDS)}, for example {EXAMPLE}")
    ((kind, values),) = value.items()
    if kind not in KINDS:
        raise SpecError(f"{place}: {short(kind)}: unknown{nearest(kind, KINDS)}; known here: {', '.join(KINDS)}")
    written = _toml(values)
    place = f"{place} = {{ {kind} = {written if len(written) <= 80 else written[:77] + '...'} }}"
    if words and "uniform" in kind:
        raise SpecError(f"{place}: nothing lies between {', '.join(map(_toml, words))}: name some by choice = [...]")
    check = _check_choice if kind == "choice" else _check_numbers
    return Range(kind=kind, values=check(kind, values, place))


def _check_choice(_: str, values: Any, place: str) -> tuple[Plain, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) or _is_finite(value) for value in values):
        raise SpecError(f"{place}: expected a list of numbers, words or switches, for example [0, 8, 12]")
    if len(values) < 2:
        raise SpecError(f"{place}: leaves no choice: name two values, or set it in the trial")
    if len(set(values)) < len(values):
        raise SpecError(f"{place}: names a value twice: name each once")
    return tuple(values)


def _check_numbers(kind: str, values: Any, place: str) -> tuple[Plain, ...]:
    admitted = int if kind == "int" else int | float
    numbers = isinstance(values, list) and all(
        isinstance(value, admitted) and not isinstance(value, bool) and _is_finite(value) for value in values
    )
    if not numbers or len(values) != 2:
        raise SpecError(f"{place}: expected [lowest, highest], two {'whole ' * (kind == 'int')}numbers")
    low, high = values
    if low == high:
        raise SpecError(f"{place}: an empty range: name two different ends, or set it in the trial")
    if low > high:
        raise SpecError(f"{place}: an inverted range: write [{_toml(high)}, {_toml(low)}]")
    if kind == "loguniform" and low <= 0:
        raise SpecError(f"{place}: a logarithm needs a lowest value above 0: for example [1e-5, {_toml(high)}]")
    return (low, high) if kind == "int" else (float(low), float(high))


def _is_finite(value: Any) -> bool:
    return isinstance(value, bool | int | float) and abs(value) < BEYOND


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(inner) for inner in value)}]"
    return f'"{value}"' if isinstance(value, str) else shown(value)
