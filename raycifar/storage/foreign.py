"""What a stranger may have put where results are to be written: told before anything is written, or taken away."""

import os
import stat
from collections.abc import Iterable

from raycifar.storage.beneath import Beneath, delete, names_in
from raycifar.storage.files import RecordError
from raycifar.storage.written import BY_RAY, CHECKPOINT, EVENTS, OURS_IN_TRIAL


def refuse_foreign(folder: Beneath, trials: Iterable[str], by_trackers: Iterable[str] = ()) -> None:
    """Raises RecordError for a link, or a file of several names, where it would be written through; nothing is changed.

    `trials` are the names of the trials', or samples', folders; `by_trackers` of what trackers write beside them.
    """
    for name in by_trackers:
        _refuse_way_out(folder / name)
    for trial in trials:
        for name in _names(folder / trial):
            if CHECKPOINT.fullmatch(name):
                _refuse_link(folder / trial / name)
            elif OURS_IN_TRIAL.fullmatch(name):
                _refuse_folder(folder / trial / name)


def clear_for_ray(folder: Beneath, trials: Iterable[str]) -> None:
    """Delete the links, pipes and files of several names that Ray would write through: it writes each of them anew.

    `trials` are those that Ray is about to run.
    """
    for place in (folder, *(folder / trial for trial in trials)):
        for name in _names(place):
            if (BY_RAY.fullmatch(name) or EVENTS.fullmatch(name)) and not _is_own(place / name):
                delete(place / name)


def _names(folder: Beneath) -> list[str]:
    try:
        return names_in(folder)
    except OSError as error:
        raise RecordError(f"{folder.path}: {error.strerror}") from None


def _is_own(file: Beneath) -> bool:
    status = os.lstat(file.path)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _refuse_way_out(what: Beneath) -> None:
    """Of what others open by its name: no link, and no second name of a file."""
    _refuse_link(what)
    if what.path.is_file() and not _is_own(what):
        raise RecordError(f"{what.path}: is a hard link, a second name of another file: put a copy in its place")


def _refuse_link(what: Beneath) -> None:
    if what.path.is_symlink():
        raise RecordError(f"{what.path}: is a link, expected a file or folder of its own")


def _refuse_folder(what: Beneath) -> None:
    if what.path.is_dir():
        raise RecordError(f"{what.path}: is a folder or leads to one, expected a file")
