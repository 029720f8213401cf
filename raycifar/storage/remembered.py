"""What was found of the user's own files, so that neither a run nor its resume reads hundreds of MB again.

It is kept in this process and in the cache of data and weights. Either is believed for files that did not change since:
their places on the disk, sizes and times (of the content, and of the entry, which no program can set) are the same.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raycifar.storage.beneath import Beneath, make_folder
from raycifar.storage.cache import cache_folder
from raycifar.storage.files import RecordError, read_json, write_json

FILE = "own-files.json"
MOST = 100  # are kept
SETTLED_NS = 2_000_000_000  # the coarsest times of a file system, FAT's
FOUND: dict[str, Any] = {}  # what, and where: the states of the files, and the digest


def once(find: Callable[[], str], files: Iterable[Path], what: str, keep: bool = False) -> str:
    """What `find` finds of these files, a digest or "": found only once for as long as none of them changes.

    `what` names it. With `keep` the cache has it, too, for processes to come. A file that changed a moment ago is read
    each time, for its times may not tell the next change. Raises what `find` raises.
    """
    paths = [path.absolute() for path in files]
    key, states = "\n".join([what, *map(str, paths)]), [_state(path) for path in paths]
    kept = _kept()
    entry = _known(FOUND, key, states) or _known(kept, key, states) or [states, find()]
    if all(state is None or time.time_ns() - max(state[-2:]) > SETTLED_NS for state in states):
        FOUND[key] = entry
        if keep and kept.get(key) != entry:
            _keep({**kept, key: entry})
    return str(entry[1])


def _known(entries: dict[str, Any], key: str, states: list[list[int] | None]) -> list[Any] | None:
    """The entry for files in these states; None where there is none, or none of ours: the file may hold anything."""
    match entries.get(key):
        case [before, str(digest)] if before == states and (digest == "" or digest.isalnum()):
            return [states, digest]
    return None


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: a null byte
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _kept() -> dict[str, Any]:
    with contextlib.suppress(OSError, RuntimeError, RecordError):
        kept = read_json(cache_folder() / FILE)
        return kept if isinstance(kept, dict) else {}
    return {}


def _keep(entries: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # of another user, or full: then it is found again
        make_folder(Beneath(cache_folder()))
        write_json(cache_folder() / FILE, dict(list(entries.items())[-MOST:]))
