"""The stock sweep files: in sweeps/ of a checkout, and in raycifar/sweeps/ of an installed package."""

import os
from pathlib import Path

from raycifar.errors import nearest

DEFAULT = "vgg"


def stock_folder() -> Path:
    """Where the stock sweep files lie."""
    package = Path(__file__).resolve().parents[1]
    return package / "sweeps" if _is_installed(package) else package.parent / "sweeps"


def examples_folder() -> str:
    """The same for a message: a user of a checkout knows its sweeps/."""
    return f"{stock_folder()}/" if _is_installed(Path(__file__).resolve().parents[1]) else "sweeps/"


def _is_installed(package: Path) -> bool:
    return (package / "sweeps").is_dir()


def stock_sweeps() -> dict[str, Path]:
    """Every stock sweep file by its name."""
    return {path.stem: path for path in sorted(stock_folder().glob("*.toml"))}


def default_sweep() -> str:
    """What to type for the default sweep: its path at the top of a checkout, its name elsewhere."""
    path = Path("sweeps", f"{DEFAULT}.toml")
    return str(path) if path.exists() and path.samefile(stock_folder() / path.name) else DEFAULT


def sweep_file(text: str) -> Path:
    """The sweep file that the user asks for: a path, or the name of a stock sweep where no file has that name.

    Raises SpecError for a name that is neither.
    """
    path = Path(text)
    if path.name != text or path.suffix or os.path.lexists(path):
        return path
    stock = stock_sweeps()
    if text not in stock:
        _refuse(text, list(stock))
    return stock[text]


def _refuse(text: str, names: list[str]) -> None:
    from raycifar.config.names import SpecError, short  # pydantic is slow to import, and --help needs none

    what = f"{short(text)}: no such file and no such stock sweep{nearest(text, names)}"
    raise SpecError(f"{what} (stock sweeps: {', '.join(names)})")
