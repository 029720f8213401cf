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
from raycifar.user_code import MOST_BYTES, Allowed, CodeError

FILE = "code.zip"


def share_code(folder: Path) -> None:
    """Put the source files of what is allowed in this process into the folder. Raises CodeError."""
    if not (files := user_code.sources()):
        return
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
    except (OSError, ValueError, zipfile.BadZipFile) as why:
        raise CodeError(f"{folder / FILE}: cannot be unpacked ({why}): start the call again") from None
    return [(name, str(root / Path(place).name) if name in absent else place, sha) for name, place, sha in modules]


@cache  # a process that trains several trials has imported the code from there
def _unpacked(file: Path, digests: tuple[str, ...]) -> Path:
    """A folder of this process's own with the archive's files. Raises OSError, ValueError or BadZipFile.

    `digests` are those of the modules that are looked for.
    """
    root = Path(tempfile.mkdtemp(prefix="raycifar-code-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
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
