"""What lies beside a folder of results and is nobody's business: it stays as it is, whatever lies in the results."""

import os
import stat
from pathlib import Path

Seen = dict[str, tuple[object, ...]]


def canaries(folder: Path) -> None:
    """Files and folders that a writer, or a deletion, would take for its own by their names."""
    for below in ("", "folder", "checkpoint_000001", "figures"):
        place = folder / below
        place.mkdir(parents=True)
        for name in ("thesis.tex", "report.md", "report.html", "trials.csv", "history.json", "error.json", "state.pt"):
            (place / name).write_text(f"mine: {below}/{name}")
        (place / "events.out.tfevents.1.host").write_text("mine")
        (place / ".history.json.123").write_text("mine")
    (folder / "link").symlink_to("thesis.tex")
    (folder / "private").mkdir(mode=0o700)
    (folder / "thesis.tex").chmod(0o640)


def seen(folder: Path) -> Seen:
    """Every path with what would change if it were touched; the number of its names may, for a hard link adds one."""
    return {str(path.relative_to(folder)): _state(path) for path in (folder, *folder.rglob("*"))}


def _state(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        content: object = os.readlink(path)
    else:
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
    return status.st_mode, status.st_uid, status.st_mtime_ns, status.st_ino, content
