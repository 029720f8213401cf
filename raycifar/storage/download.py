"""Downloads by HTTP, from npm and from PyPI, and their verification; pickles that may hold nothing but arrays."""

from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import subprocess
import tarfile
import threading
import urllib.request
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from raycifar.storage.kinds import HEAD_BYTES, stands_in
from raycifar.texts import in_one_line, printable

Readable = io.BufferedReader | io.BytesIO
CONNECT_SECONDS = 10.0
DOWNLOAD_SECONDS = 1800.0  # 139 MB at 80 kB/s


def digest_of(file: Readable, first: bytes = b"", algorithm: str = "sha256") -> str:
    """The hexadecimal digest of `first` and the rest of the file."""
    return hashlib.file_digest(file, lambda: hashlib.new(algorithm, first, usedforsecurity=False)).hexdigest()


def verify(name: str, content: Path | bytes, digest: str, size: int | None = None, algorithm: str = "sha256") -> None:
    """Raises ValueError unless `content` has `size` bytes and a digest that begins with `digest`.

    A beginning is enough, for torchvision publishes only eight digits of some.
    """
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        other = stands_in(file.read(HEAD_BYTES))
        actual_size = file.seek(0, io.SEEK_END)
        file.seek(0)
        actual = digest_of(file, algorithm=algorithm)
    hint = f"; it looks like {other}" if other else ""
    if size is not None and actual_size != size:
        raise ValueError(f"{name} has {actual_size:,} bytes, expected {size:,}{hint}")
    if not actual.startswith(digest):
        raise ValueError(f"{name} has {algorithm} {actual}, expected {digest}{hint}")


def connect(url: str) -> Any:
    """The open response. Raises ConnectionError after CONNECT_SECONDS.

    It is waited for in a thread: a name look-up has no time-out, and those of several addresses add up.
    """
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=CONNECT_SECONDS))  # noqa: S310
        except Exception as why:
            answer.set_exception(why)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=CONNECT_SECONDS)
    except Exception as why:
        raise ConnectionError(f"{url}: {in_one_line(why)}") from None


def download(url: str, path: Path) -> Path:
    """Download into `path` with a progress bar; returns `path`. Raises OSError."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=_console)
    with connect(url) as response, path.open("wb") as file, bar as progress:
        size = int(response.headers.get("Content-Length") or 0)
        with progress.wrap_file(response, size, description=path.name) as counted:
            shutil.copyfileobj(counted, file, 1 << 20)
    return path


def run_program(command: Sequence[str], folder: Path, seconds: float) -> None:
    """Run a program without a shell, for `seconds` at most.

    Raises RuntimeError where it is missing, fails or takes too long; the message quotes what it complains of.
    """
    program, shown = shutil.which(command[0]), " ".join([Path(command[0]).name, *command[1:4]])
    if program is None:
        raise RuntimeError(f"{command[0]} is not installed")
    try:
        with _console.status(shown):
            pipes: dict[str, Any] = {
                "stdin": subprocess.DEVNULL,
                "capture_output": True,
                "text": True,
                "errors": "replace",
            }
            done = subprocess.run([program, *command[1:]], cwd=folder, timeout=seconds, check=False, **pipes)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{shown} did not finish within {seconds:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["(it said nothing)"]
        complaints = [line for line in lines if line.lower().startswith(("error", "npm err", "warning: retrying"))]
        raise RuntimeError(f"{shown} ended with status {done.returncode}: {'; '.join(complaints[:3] or lines[-1:])}")


def tar_members(archive: Path, names: Collection[str]) -> dict[str, bytes]:
    """The contents of the named regular files of a tar archive; nothing is written, so no path in it can do harm.

    Raises ValueError where one is missing.
    """
    contents: dict[str, bytes] = {}
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() and member.name in names else None
            if content is not None:
                contents[member.name] = content.read()
    if missing := sorted(set(names) - contents.keys()):
        raise ValueError(f"{archive.name} lacks {', '.join(missing)}")
    return contents


class ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays in plain containers, and refuses all else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}: refused")
        return admitted[module, name]


_console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print a line on stderr."""
    _console.print(printable(text), markup=False, soft_wrap=True)
