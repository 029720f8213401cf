"""The user's code on nodes that have it not: its source files in the results' folder, which all nodes see.

What lies there is believed only where its SHA-256 is the one that the call hands over: no folder of results can bring
code of its own.
"""

import atexit
import io
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from raycifar import user_code
from raycifar.storage.beneath import Beneath, write_bytes
from raycifar.storage.files import read_file
from raycifar.texts import in_one_line
from raycifar.user_code import MOST_BYTES, Allowed, CodeError

FILE = "code.zip"
_made: list[Path] = []  # folders of this process


def share_code(folder: Path) -> None:
    """Put the source files of what is allowed in this process into the folder. Raises CodeError."""
    if not (files := user_code.sources()):
        return
    if sum(map(len, files.values())) > MOST_BYTES:
        raise CodeError(f"--code: the modules have more than {MOST_BYTES / 1e6:.0f} MB of source together")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    try:
        write_bytes(Beneath(folder) / FILE, packed.getvalue())
    except OSError as why:
        raise CodeError(f"{folder / FILE}: cannot be written ({why.strerror}): make room or rights there") from None


def found_here(modules: Sequence[Allowed], folder: Path) -> list[Allowed]:
    """The modules with the places where they lie in this process: what is not there, or differs, is in the folder.

    Their digests are compared by whoever imports them. Raises CodeError.
    """
    absent = {module[0] for module in modules if not user_code.lies_here(module)}
    if not absent or not (folder / FILE).exists():
        return list(modules)
    try:
        root = _unpacked(folder / FILE, tuple(sha for *_, sha in modules))
    except Exception as why:  # whatever zipfile and its decompressors raise
        raise CodeError(f"{folder / FILE}: cannot be unpacked ({in_one_line(why)}): start the call again") from None
    return [(name, str(root / Path(place).name) if name in absent else place, sha) for name, place, sha in modules]


@cache  # a process that trains several trials has imported the code from there
def _unpacked(file: Path, digests: tuple[str, ...]) -> Path:
    """A folder of this process's own with the archive's files; a process that is killed leaves it behind.

    `digests` are those of the modules that are looked for. Raises whatever zipfile raises.
    """
    root = Path(tempfile.mkdtemp(prefix="raycifar-code-"))
    _made.append(root)
    with zipfile.ZipFile(io.BytesIO(read_file(file, MOST_BYTES))) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES / 1e6:.0f} MB of source")
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if ".." in parts or member.filename.startswith("/"):
                raise ValueError(f"{member.filename!r:.80} lies outside")
            target = root.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
    return root


@atexit.register  # which a process that Ray ends does not come to
def forget() -> None:
    """Remove what was unpacked, once this process runs no more of it."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
    _unpacked.cache_clear()
