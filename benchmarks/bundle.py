"""What a machine without network lacks, as archive parts that travel one by one: wheels, CIFAR-10, ImageNet weights.

    python -m benchmarks.bundle pack .gpu/bundle           # here: .gpu/bundle/00, 01, ..., at most 50 MB each
    python3 -m benchmarks.bundle unpack PARTS TARGET       # there: all that is in those folders, in PARTS

The wheels are those of Python 3.12 on x86-64 Linux; packages that the machine has (present.txt) stay behind. Unpacking
needs the standard library and pip alone, checks every part and every file by its SHA-256, and prints what to export.
"""

import argparse
import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Literal, cast

ROOT = Path(__file__).parent.parent
PRESENT = ROOT / "benchmarks" / "gpu" / "present.txt"
MOST = 50_000_000  # bytes of a part
CHUNK = 1 << 20
MANIFEST = "manifest.json"
GLIBCS = (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)  # pip matches manylinux_2_N exactly
PLATFORMS = (*(f"manylinux_2_{n}_x86_64" for n in GLIBCS), "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")  # fmt: skip # noqa: E501
FOR = [*(f"--platform={name}" for name in PLATFORMS), "--python-version=3.12", "--implementation=cp"]


class BundleError(Exception):
    """The bundle cannot be made or unpacked; the message names the file and the remedy."""


# Packing -------------------------------------------------------------------------------------------------------------


def fetch_wheels(wanted: Sequence[str], present: set[str], folder: Path) -> None:
    """Download the wheels of `wanted` and of what they need, in the tested versions. Raises BundleError."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [requirement for requirement in wanted if name_of(requirement) not in present]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        resolve = ["install", "--dry-run", "--ignore-installed", f"--report={report}", f"--target={scratch}"]
        _pip(*resolve, "-c", str(ROOT / "constraints.txt"), *FOR, "--only-binary=:all:", *missing)
        found = [package["metadata"] for package in json.loads(report.read_text())["install"]]
    pinned = [f"{package['name']}=={package['version']}" for package in found]
    absent = [requirement for requirement in pinned if name_of(requirement) not in present]
    _pip("download", "--no-deps", f"--dest={folder}", *FOR, "--only-binary=:all:", *absent)


def name_of(requirement: str) -> str:
    """The package's name as registries compare it: "Ray_X[train]>=2" is "ray-x"."""
    name = requirement.strip()
    for end in "[<>=!~; ":
        name = name.partition(end)[0]
    return name.lower().replace("_", "-").replace(".", "-")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundleError(f"pip {arguments[0]}: {done.stderr.strip()[-500:] or done.returncode}")


def present_names(path: Path) -> set[str]:
    """The packages of a list such as `pip list --format=freeze` prints, without their versions."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return {name_of(line) for line in lines if line and not line.startswith("#")}


def pack(content: Path, folder: Path, most: int = MOST) -> list[Path]:
    """The files below `content`, links as what they lead to, as an archive in parts `folder`/00/part.00 and so on.

    A part has at most `most` bytes. Beside each lies the manifest, with the SHA-256 of all parts and files. An earlier
    bundle is replaced. Raises BundleError where the folder holds anything else.
    """
    _make_room(folder)
    files = {str(path.relative_to(content)): digest(path) for path in sorted(content.rglob("*")) if path.is_file()}
    splitter = _Splitter(folder, most)
    with lzma.LZMAFile(cast(IO[bytes], splitter), "wb", preset=0) as packed, _tar(packed, "w|") as archive:
        for name in files:
            archive.add(content / name, name)
    splitter.close()
    manifest = {"parts": {path.name: digest(path) for path in splitter.parts}, "files": files}
    for path in splitter.parts:
        (path.parent / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return splitter.parts


def _tar(packed: lzma.LZMAFile, mode: Literal["w|", "r|"]) -> tarfile.TarFile:
    """An archive that is read or written from front to back; links become what they lead to."""
    return tarfile.open(fileobj=packed, mode=mode, dereference=True)


def _make_room(folder: Path) -> None:
    others = [path for path in folder.glob("*") if not (path.is_dir() and path.name.isdigit())]
    if others:
        raise BundleError(f"{folder}: holds {others[0].name}, which is no part of a bundle: name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


class _Splitter:
    """A file to write to, whose bytes go into one part after the other."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self.parts: list[Path] = []
        self._next()

    def _next(self) -> None:
        number = f"{len(self.parts):02}"
        path = self._folder / number / f"part.{number}"
        path.parent.mkdir()
        self.parts.append(path)
        self._file, self._room = path.open("wb"), self._most

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            if not self._room:
                self.close()
                self._next()
            taken = self._file.write(rest[: self._room])
            self._room, rest = self._room - taken, rest[taken:]
        return len(data)

    def close(self) -> None:
        self._file.close()


def digest(path: Path) -> str:
    """The file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Unpacking -----------------------------------------------------------------------------------------------------------


def unpack(parts: Path, target: Path) -> dict[str, str]:
    """Unpack the bundle whose parts lie anywhere below `parts` into `target`, which is there whole or not at all.

    Returns the files' SHA-256 by name. Raises BundleError where a part is missing or damaged, and for a target that
    holds something.
    """
    if target.exists() and any(target.iterdir()):
        raise BundleError(f"{target}: is not empty: name another folder")
    found, manifest = _parts(parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as scratch:
        content = Path(scratch) / "content"
        with lzma.LZMAFile(cast(IO[bytes], _Joined(found))) as packed, _tar(packed, "r|") as archive:
            archive.extractall(content, filter="data")
        wrong = [name for name, expected in manifest["files"].items() if digest(content / name) != expected]
        if wrong:
            raise BundleError(f"{wrong[0]}: came out other than it went in: pack again")
        if target.exists():
            target.rmdir()
        content.rename(target)
    files: dict[str, str] = manifest["files"]
    return files


def _parts(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """The parts in order, each as the manifest says. Raises BundleError."""
    manifest_path = next(iter(sorted(folder.rglob(MANIFEST))), None)
    if manifest_path is None:
        raise BundleError(f"{folder}: no {MANIFEST} there: copy the folders that `pack` made")
    manifest: dict[str, Any] = json.loads(manifest_path.read_text())
    found = {path.name: path for path in folder.rglob("part.*")}
    for name, expected in manifest["parts"].items():
        if name not in found:
            raise BundleError(f"{folder}: {name} of {len(manifest['parts'])} parts is missing: copy it, too")
        if digest(found[name]) != expected:
            raise BundleError(f"{found[name]}: damaged, or of another bundle: copy it again")
    return [found[name] for name in sorted(manifest["parts"])], manifest


class _Joined:
    """A file to read from: the parts' bytes, one part after the other."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._rest = list(parts)
        self._file = self._rest.pop(0).open("rb")

    def read(self, size: int = -1) -> bytes:
        while not (data := self._file.read(size)) and self._rest:
            self._file.close()
            self._file = self._rest.pop(0).open("rb")
        return data


# Commands ------------------------------------------------------------------------------------------------------------


def _pack(args: argparse.Namespace) -> None:
    from raycifar.config.sweep_file import load_sweep
    from raycifar.execution.options import Options
    from raycifar.execution.runners import fetch_assets
    from raycifar.storage.asset_cache import AssetError

    try:
        assets = fetch_assets(load_sweep(ROOT / "sweeps" / "vgg.toml").trials, Options())
    except AssetError as error:
        raise BundleError(str(error)) from None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as scratch:
        content = Path(scratch)
        fetch_wheels([*project["dependencies"], *args.package], present_names(args.present), content / "wheels")
        (content / "cache").mkdir()
        for path in (assets.data, assets.imagenet):
            if path is not None:
                (content / "cache" / path.name).symlink_to(path.resolve())
        for part in pack(content, args.folder):
            print(f"{part}: {part.stat().st_size / 1e6:.1f} MB")


def _unpack(args: argparse.Namespace) -> None:
    target = args.target.absolute()
    unpack(args.parts, target)
    wheels = [str(path) for path in sorted((target / "wheels").glob("*.whl"))]
    if wheels:
        _pip("install", "--no-index", "--no-deps", "--no-compile", f"--target={target / 'site'}", *wheels)
    print(f"export PYTHONPATH={target / 'site'}:. RAYCIFAR_CACHE={target / 'cache'}")


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    run: Callable[[argparse.Namespace], None] = args.run
    try:
        run(args)
    except (BundleError, OSError, tarfile.TarError, lzma.LZMAError, ValueError) as error:
        print(f"benchmarks.bundle: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    description = (__doc__ or "").partition("\n\n")[0]
    made = argparse.ArgumentParser("python -m benchmarks.bundle", description=description, allow_abbrev=False)
    verbs = made.add_subparsers(required=True)
    packing = verbs.add_parser("pack", help="make the parts, where there is a network")
    packing.add_argument("folder", type=Path, help="gets the parts")
    packing.add_argument("--present", type=Path, default=PRESENT, help="packages that the machine has (a pip list)")
    packing.add_argument("--package", action="append", default=[], help="one more that it needs; repeatable")
    packing.set_defaults(run=_pack)
    unpacking = verbs.add_parser("unpack", help="unpack and install the parts, where there is none")
    unpacking.add_argument("parts", type=Path, help="folder with all parts, each with or without its own folder")
    unpacking.add_argument("target", type=Path, help="empty or new folder")
    unpacking.set_defaults(run=_unpack)
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
