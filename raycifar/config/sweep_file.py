"""A sweep file becomes a SweepSpec; every key of it is checked before anything starts.

A sweep file has `[defaults]`, from which every trial starts, and `[[trials]]`; nested tables merge. `repeats = 3`
turns the trial `transfer` into `transfer-1`, `transfer-2`, `transfer-3` with the seeds `seed`, `seed + 1`, `seed + 2`.
"""

import contextlib
import os
import re
import reprlib
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from raycifar.config.names import NAME_RULE, Name, SpecError, listed, short
from raycifar.config.needs import NEEDS
from raycifar.config.settings import TrialSettings
from raycifar.config.stock_sweeps import examples_folder
from raycifar.config.sweep import MOST_TRIALS, SweepSpec, TrialSpec
from raycifar.config.table import Table
from raycifar.errors import nearest
from raycifar.storage.files import read_file

MOST_BYTES = 1_000_000  # of a sweep file
MOST_DOTS = 100  # in a line: tomllib takes minutes over one with 30,000

_Model = TypeVar("_Model", bound=BaseModel)


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
            yield validate(TrialSpec, repeat, f"{place}, repeat {i + 1}")


class _SweepFile(Table):
    """The top of a sweep file; `defaults` is checked only through the trials that it ends up in."""

    name: Name | None = None
    defaults: dict[str, Any] = Field(default_factory=dict)
    trials: Annotated[list[dict[str, Any]], Field(min_length=1)]
    search: dict[str, Any] | None = None  # search.spec reads it


def load_sweep(path: str | Path, settings: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file; `settings` are `key=value` for every trial, or `trial.key=value` for one.

    Raises SpecError naming file, trial, key, value and remedy.
    """
    path = Path(path)
    content = read_toml(path)
    if "search" in content:
        raise SpecError(f"{path}: [search] makes it a search, not a sweep: search.spec.load_search reads it")
    return parse_sweep(content, path, settings)


def parse_sweep(content: Mapping[str, Any], path: Path, settings: Sequence[str] = ()) -> SweepSpec:
    """The trials of a sweep file's content, or those that a search starts from. Raises SpecError, as load_sweep."""
    file = validate(_SweepFile, content, str(path))
    _check_keys(file.defaults, _TrialTable, f"{path}: [defaults]")
    overrides = [parse_setting(setting) for setting in settings]
    tables = [_merge(file.defaults, trial) for trial in file.trials]
    _from_folder(tables, path.absolute().parent)
    for keys, value, text in overrides:
        _override(tables, keys, value, text)
    _from_folder(tables, Path.cwd())
    place = " ".join([str(path), *(f"--set {short(setting)}" for setting in settings)])
    places = [f"{place}: {_label(table, i)}" for i, table in enumerate(tables)]
    checked = [validate(_TrialTable, table, where) for table, where in zip(tables, places, strict=True)]
    if (count := sum(trial.repeats for trial in checked)) > MOST_TRIALS:
        raise SpecError(f"{place}: {count:,} trials, repeats counted: a sweep has at most {MOST_TRIALS:,}")
    if file.search is None:  # the space may set what another setting needs
        # An override may well leave what the file sets without effect: only what is asked for now has to have one.
        asked = {".".join(keys[-2:]) for keys, _, _ in overrides} if overrides else NEEDS.keys()
        _refuse_idle(tables, checked, asked, place)
    trials = tuple(spec for trial, where in zip(checked, places, strict=True) for spec in trial.expand(where))
    return validate(SweepSpec, {"name": file.name or path.stem, "trials": trials}, place)


def _from_folder(tables: Sequence[dict[str, Any]], folder: Path) -> None:
    """Make each relative data.path one that begins in the folder; where none can be made, it stays to be refused."""
    for table in tables:
        data = table.get("data")
        if isinstance(data, dict) and isinstance(named := data.get("path"), str) and named:
            with contextlib.suppress(RuntimeError):  # the home of nobody
                table["data"] = data | {"path": os.path.normpath(folder / Path(named).expanduser())}


def _refuse_idle(
    tables: Sequence[Mapping[str, Any]], trials: Sequence[_TrialTable], keys: Collection[str], place: str
) -> None:
    """Refuse a setting that has no effect in any of the trials that set it: its user expects other numbers."""
    for key in (key for key in NEEDS if key in keys):
        setters = [trial for table, trial in zip(tables, trials, strict=True) if _is_set(table, key)]
        decides, need = NEEDS[key]
        if setters and not any(decides(trial) for trial in setters):
            names = listed([trial.name for trial in setters])
            raise SpecError(f"{place}: {names}: {key} decides nothing without {need}: set that, or leave {key} out")


def _is_set(table: Mapping[str, Any], key: str) -> bool:
    above, _, name = key.partition(".")
    return name in table.get(above, {})


def read_toml(path: Path) -> dict[str, Any]:
    """A sweep file's content. Raises SpecError."""
    try:
        text = read_file(path, MOST_BYTES).decode("utf-8-sig")  # some editors begin a file with a mark
        return _parse_toml(text)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; see the examples in {examples_folder()}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); a sweep file is UTF-8 TOML") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 text ({error}); a sweep file is UTF-8 TOML") from None
    except (ValueError, RecursionError) as error:  # ValueError also for a number of 5,000 digits
        raise SpecError(f"{path}: not valid TOML: {short(str(error))}") from None


def _parse_toml(text: str) -> dict[str, Any]:
    """Raises ValueError or RecursionError."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS and not line.lstrip().startswith("#"):
            raise ValueError(f"line {number} has {line.count('.'):,} dots, at most {MOST_DOTS} are read")
    return tomllib.loads(text)


def _label(table: Mapping[str, Any], index: int) -> str:
    name = table.get("name")
    return f"trial {shown(name)}" if isinstance(name, str) else f"[[trials]] number {index + 1}"


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def parse_setting(text: str) -> tuple[list[str], Any, str]:
    """The key's parts, the value and the text, shortened, of a `key=value`. Raises SpecError."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        examples = "--set epochs=3 or --set scratch.optimizer.lr=0.05"
        raise SpecError(f"--set {short(text)}: expected key=value, for example {examples}")
    try:
        table = _parse_toml(f"value = {value}")
    except (ValueError, RecursionError):
        table = {}
    parsed = table["value"] if len(table) == 1 else value.strip()  # a bare word is a string
    return key.split("."), parsed, short(text)


def _override(tables: list[dict[str, Any]], keys: list[str], value: Any, text: str) -> None:
    chosen = [table for table in tables if table.get("name") == keys[0]] if len(keys) > 1 else []
    keys = keys[1:] if chosen else keys
    if not chosen and len(keys) > 1 and keys[0] not in _TrialTable.model_fields:
        known = [str(table.get("name")) for table in tables] + list(_TrialTable.model_fields)
        names = listed(known[: len(tables)])
        raise SpecError(
            f"--set {text}: no [[trials]] and no setting is named {short(keys[0])!r}{nearest(keys[0], known)} "
            f"(the file's [[trials]], whose repeats share their settings: {names})"
        )
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
            raise SpecError(f"{place}: {above}{short(key)}: {_unknown(key, model)}")
        inner = model.model_fields[key].annotation
        if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
            _check_keys(value, inner, place, f"{above}{key}.")


def validate(model: type[_Model], data: Any, place: str) -> _Model:
    """Raises SpecError: the place, and in one line what is wrong there and what would be right."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise SpecError(f"{place}: {_explain(error.errors()[0], model)}") from None


def _explain(error: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One line for pydantic's first error: key = value: what is wrong and what would be right."""
    key = ".".join(short(str(part)) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{key}: {_unknown(str(error['loc'][-1]), _table_at(model, error['loc'][:-1]))}"
    if error["type"] == "missing":
        remedy = (
            "a sweep file has at least one [[trials]]" if key == "trials" else "add it to the trial or to [defaults]"
        )
        return f"{key} is missing: {remedy}"
    if error["type"] == "value_error":
        return f"{key + ': ' if key else ''}{error['ctx']['error']}"
    return f"{key} = {shown(error['input'])}: {_expected(key, error)}"


def _expected(key: str, error: Mapping[str, Any]) -> str:
    if key.endswith("name") and error["type"] in ("string_pattern_mismatch", "string_type"):
        return NAME_RULE
    if key.startswith("trials"):
        return "expected at least one [[trials]], in two pairs of brackets"
    if error["type"] in ("model_type", "dict_type"):
        return f"expected a table, for example {_EXAMPLES[key]}"
    return _KINDS.get(error["type"]) or str(error["msg"]).removeprefix("Input ")


_KINDS = {
    "tuple_type": "expected a list, for example [4096, 4096]",
    "int_type": "expected a whole number such as 15, unquoted",
    "float_type": "expected a number such as 0.01, unquoted",
    "finite_number": "expected a finite number such as 0.01",
    "string_pattern_mismatch": 'expected "all", "head", a block such as "block3", or the last ones as "last2"',
    "bool_type": "expected true or false, unquoted",
}


_EXAMPLES = {
    "defaults": "[defaults]",
    "search": "[search]",
    "space": "[search.space]",
    "model": 'model = { weights = "imagenet" }',
    "data": "data = { train_images = 3000 }",
    "augmentation": "augmentation = { crop = 4 }",
    "optimizer": "optimizer = { lr = 0.01 }",
    "schedule": 'schedule = { name = "cosine" }',
    "early_stopping": "early_stopping = { patience = 15 }",
    "averaging": "averaging = { ema_decay = 0.999 }",
}


def shown(value: Any) -> str:
    """As TOML writes it, cut to a line's share."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print numbers beyond 4,300 digits
        return "a number of thousands of digits"


def _table_at(model: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel]:
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _unknown(key: str, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    return f"unknown key{nearest(key, known)}; known here: {', '.join(known)}"
