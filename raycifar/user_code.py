"""The user's own code: functions that a sweep file names, and that run only where the caller said `--code MODULE`.

What is allowed is known to this process alone, and comes from the command line or a call from Python: nothing that is
read (a sweep file, a folder of results, a checkpoint) can allow anything. Only names that are allowed are imported, and
only functions that are defined in them are called.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raycifar.errors import InputError
from raycifar.texts import in_one_line

MOST_BYTES = 100_000_000  # of a module's files together
Allowed = tuple[str, str, str]  # a module's name, where it lies, its digest: plain values, for they travel as JSON


class CodeError(InputError):
    """The user's code may not run, is not there, or fails; the message names place, value and remedy."""


@dataclass(frozen=True, slots=True)
class _Module:
    name: str
    place: Path  # a .py file, or a package's folder
    digest: str  # SHA-256 of its source files


_allowed: dict[str, _Module] = {}
_loaded: dict[str, tuple[ModuleType, str]] = {}  # the modules as they run here, and the digest that each had then


def allow(modules: Sequence[str], folder: Path) -> None:
    """Allow these modules and no others: each a name, or the name of a .py file in `folder`. Imports nothing.

    What lies in `folder`, the sweep file's, comes before what is installed. Raises CodeError.
    """
    found = [_found(module, folder) for module in modules]
    _allowed.clear()
    _allowed.update({module.name: module for module in found})


def allow_as(modules: Sequence[Allowed]) -> None:
    """Allow in a worker what its caller allowed, if it is the same code here. Raises CodeError."""
    here = [_Module(name, Path(place), "") for name, place, _ in modules]
    _allowed.clear()
    for module, (name, place, digest) in zip(here, modules, strict=True):
        known = module if module.place.exists() else _found(name, Path(place).parent)
        if (actual := _digest(known.place)) != digest:
            raise CodeError(f"{known.place}: {name} is not the code with which this call began: start the call again")
        _allowed[name] = _Module(name, known.place, actual)


def lies_here(module: Allowed) -> bool:
    """Whether this machine has the module, as its caller has it, in the same place."""
    try:
        return _digest(Path(module[1])) == module[2]
    except (CodeError, OSError):
        return False


def allowed() -> tuple[Allowed, ...]:
    """What is allowed in this process, for its workers."""
    return tuple((module.name, str(module.place), module.digest) for module in _allowed.values())


def sources() -> dict[str, bytes]:
    """The source files of what is allowed, by where they lie beside each other. Raises CodeError."""
    return {
        f"{module.place.name}/{name}" if module.place.is_dir() else name: content
        for module in _allowed.values()
        for name, content in _source_files(module.place)
    }


def digests() -> dict[str, str]:
    """The SHA-256 of each allowed module's source files, for the record."""
    return {module.name: module.digest for module in _allowed.values()}


def function(source: str, setting: str, group: str) -> Callable[..., Any]:
    """The function that `source` names: `package.module:function`, or an entry point of `group`.

    `setting` names the key of the sweep file. Raises CodeError where its module is not allowed or has no such one.
    """
    target = source if ":" in source else _entry_point(source, setting, group)
    module, _, name = target.partition(":")
    top = module.partition(".")[0]
    if top not in _allowed:
        raise CodeError(f'{setting} = "{source}" runs Python code: type --code {top} if you trust it')
    try:
        _load(_allowed[top])
        found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise CodeError(f'{setting} = "{source}": importing {module} failed: {told(error)}') from error
    if not callable(found):
        raise CodeError(f'{setting} = "{source}": {module} has no function {name}')
    # Else a sweep file could call whatever the module imports.
    if str(getattr(found, "__module__", "")).partition(".")[0] != top:
        raise CodeError(f'{setting} = "{source}": {name} is not defined in {top}: write a function there that calls it')
    return found  # type: ignore[no-any-return]


def told(error: BaseException) -> str:
    """What an exception of the user's code says, in one line."""
    name, said = type(error).__name__, in_one_line(error, 300)
    return name if said == name else f"{name}: {said}"


def _entry_point(name: str, setting: str, group: str) -> str:
    """The `module:function` behind an installed package's entry point; its metadata are read, and nothing imported."""
    points = {point.name: point.value for point in importlib.metadata.entry_points(group=group)}
    if name not in points:
        names = f"there are {', '.join(sorted(points))}" if points else "no installed package has one"
        raise CodeError(f'{setting} = "{name}": no entry point of {group} ({names}): expected module:function')
    return points[name].replace(" ", "").partition("[")[0]


def _found(text: str, folder: Path) -> _Module:
    name = Path(text).stem if text.endswith(".py") else text
    if not name.isidentifier() or Path(text).name != text:
        raise CodeError(
            f"--code {text}: expected a module's name, or the name of a .py file beside the sweep file; "
            "a function's package is allowed as a whole, as --code mylab"
        )
    beside = [place for place in (folder / f"{name}.py", folder / name / "__init__.py") if place.is_file()]
    if not beside and text.endswith(".py"):
        raise CodeError(f"--code {text}: no such file in {folder.absolute()}")
    place = beside[0] if beside else _installed(name, text, folder)
    place = place.parent if place.name == "__init__.py" else place
    return _Module(name, place.resolve(), _digest(place))


def _installed(name: str, text: str, folder: Path) -> Path:
    try:
        spec = importlib.util.find_spec(name)  # of a module without dots: imports nothing
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.has_location or not spec.origin or not spec.origin.endswith(".py"):
        raise CodeError(
            f"--code {text}: no {name}.py and no {name}/__init__.py in {folder.absolute()}, and no installed module "
            "in Python of that name"
        )
    return Path(spec.origin)


def _digest(place: Path) -> str:
    """Over the names and contents of all .py files of a module. Raises CodeError."""
    digest = hashlib.sha256()
    for name, content in _source_files(place):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _source_files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Names, from the module's folder on, and contents. Raises CodeError."""
    left = MOST_BYTES
    for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
        try:
            content = path.read_bytes() if path.is_file() and path.stat().st_size <= left else None
        except OSError as error:
            raise CodeError(f"{path}: {error.strerror}") from None
        if content is None:
            raise CodeError(f"{path}: not a file, or its module has more than {MOST_BYTES / 1e6:.0f} MB of source")
        left -= len(content)
        yield path.relative_to(place).as_posix() if path != place else path.name, content


def _load(module: _Module) -> None:
    """Import the module from its place, once. Raises CodeError where Python has another one of that name, or an older.

    A process that makes several calls, such as a notebook's, would else run other code than it records.
    """
    origin = module.place / "__init__.py" if module.place.is_dir() else module.place
    if known := sys.modules.get(module.name):
        if Path(known.__file__ or "").resolve() != origin.resolve():
            raise CodeError(f"--code {module.name}: Python has another module of that name: rename {module.place.name}")
        seen, digest = _loaded.setdefault(module.name, (known, module.digest))
        if seen is known and digest != module.digest:
            raise CodeError(
                f"--code {module.name}: {module.place} has changed since this process imported it: restart it"
            )
        _loaded[module.name] = known, module.digest
        return
    folder = [str(module.place)] if module.place.is_dir() else None
    spec = importlib.util.spec_from_file_location(module.name, origin, submodule_search_locations=folder)
    assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it is a .py file
    made: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[module.name] = made
    try:
        spec.loader.exec_module(made)
        _loaded[module.name] = made, module.digest
    except BaseException:
        del sys.modules[module.name]
        raise


def agreed_code(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The digests of a folder's modules, by name. Raises CodeError where those on record are others."""
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            raise CodeError(
                f"{path}: its trials ran {name} with the SHA-256 {before[name][:16]}, not {now[name][:16]}: "
                "put the former code back, or choose another --name"
            )
    return {**before, **now}
