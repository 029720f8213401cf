"""Where the files of this folder lie, and what the version before the restructure made of them."""

import json
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDERS = ("finished", "interrupted", "search")


def expected(name: str) -> Any:
    """One of expected/*.json."""
    return json.loads((HERE / "expected" / f"{name}.json").read_text())


def copied(storage: Path, *names: str) -> Path:
    """The storage, with copies of the folders: a test may write into them."""
    for name in names or FOLDERS:
        shutil.copytree(HERE / name, storage / name)
    return storage
