"""Small files that would take gigabytes or minutes: each is refused in a gigabyte and 20 s, in a process of its own."""

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.support import pickles, search_folders
from tests.support.paths import ROOT
from tests.support.sweep_folders import add_predictions, write_sweep

pytestmark = pytest.mark.slow

SECONDS, BYTES = 20, 1e9
SWEEP = '[[trials]]\nname = "transfer"\nepochs = 1\nmodel = { weights = "imagenet" }\n'  # as write_sweep has it
FLOATS = 300_000_000
MEASURE = """
import json, sys, time
from pathlib import Path
folder = Path("sweep").resolve()
start = time.process_time()
try:
    said = str({0})
except Exception as error:
    said = f"{{type(error).__name__}}: {{error}}"
most = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({{"seconds": time.process_time() - start, "bytes": int(most.split()[1]) * 1024, "said": said[:500]}}))
"""
RESULTS = "__import__('raycifar.analysis.results').analysis.results.read_results(folder).problems"
PREDICTIONS = (
    "__import__('raycifar.analysis.predictions').analysis.predictions.read_predictions("
    "__import__('raycifar').read_results(folder)).problems"
)
MODEL = "__import__('raycifar').load_model(folder)"
WEIGHTS = (
    "(w := __import__('raycifar.networks.weights').networks.weights, "
    "a := __import__('raycifar.storage.asset_cache').storage.asset_cache, "
    "w.fetch_vgg16(folder.parent / 'weights', get=a.examine))[2]"
)
STATE = (
    "__import__('raycifar.training.checkpoint_writer').training.checkpoint_writer.load_checkpoint(folder.parent / 'c')"
)


def sweep_with(spec: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Changes the spec in sweep.json."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / "sweep.json").read_text())
        spec(data["spec"])
        (folder / "sweep.json").write_text(json.dumps(data, separators=(",", ":")))

    return spoil


def many_trials(spec: dict) -> None:
    spec["trials"] = [
        {"name": f"a{i}", "arm": "a", "seed": i, "epochs": 1, "model": {"weights": "random"}} for i in range(300_000)
    ]


def empty_trials(spec: dict) -> None:
    spec["trials"] = [{}] * 700_000


def huge_network(spec: dict) -> None:
    spec["trials"][0]["model"]["hidden"] = [16_384] * 8


def history(content: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / "transfer" / "history.json").write_bytes(content())  # type: ignore[return-value]


def long_directory(path: Path) -> None:
    """A zip archive that holds nothing but a directory of 141 MB."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, *[0] * 8, 1, *[0] * 6) + b"a"
    entries = b"".join([entry] * (141_000_000 // len(entry)))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entries), 4, 0)
    path.write_bytes(b"PK\x03\x04" + entries + end)


def packed_tensor(path: Path) -> None:
    """What torch.save wrote of 1.2 GB of zeros, compressed to some MB."""
    plain = path.with_suffix(".plain")
    with torch.serialization.skip_data():
        torch.save({"features.0.weight": torch.empty(FLOATS)}, plain)
    with zipfile.ZipFile(plain) as there, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as here:
        for member in there.infolist():
            if member.file_size < 1000:
                here.writestr(member.filename, there.read(member))
                continue
            with here.open(member.filename, "w", force_zip64=True) as target:
                for _ in range(member.file_size // 4_000_000):
                    target.write(bytes(4_000_000))
    plain.unlink()


def long_header(path: Path) -> None:
    """A safetensors file of 900,000 empty tensors, whose header has 60 MB."""
    tensors = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(900_000)}
    header = json.dumps(tensors, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def as_state(write: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder.parent / "c").mkdir()
        write(folder.parent / "c" / "state.pt")

    return spoil


def with_head(folder: Path) -> None:
    """A network whose sweep.json says more than its weights hold."""
    save_file(nn.Linear(2, 2).state_dict(), folder / "transfer" / "best.safetensors")
    sweep_with(huge_network)(folder)


def small_state(content: Callable[[], bytes]) -> Callable[[Path], None]:
    """A checkpoint's state whose pickle is made by hand."""
    return as_state(lambda path: pickles.archive(path, content()))


def small_weights(content: Callable[[], bytes]) -> Callable[[Path], None]:
    """The same as a file of weights, as PyTorch wrote it before 1.6."""
    return lambda folder: pickles.legacy(folder.parent / "weights", content())


def one_key() -> bytes:
    """A key that takes 2^40 values to hash."""
    return b"})" + b"q\x00h\x00\x86" * 40 + b"Ns"


def one_hash() -> bytes:
    """A dictionary of 300,000 numbers that Python takes for equal until it compares them."""
    return b"}(" + b"".join(pickles.number(n * pickles.P61) + b"N" for n in range(1, 300_000)) + b"u"


def most_instructions() -> bytes:
    """As many as are allowed, and as costly ones as were found: a dictionary of lists."""
    return b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"]" for n in range(740_000)) + b"u"


def copies() -> bytes:
    """A text of 4 MB in a thousand copies."""
    again = pickles.called("_codecs.encode", b"h\x00", pickles.text("latin1"))
    return pickles.over_and_over(pickles.text("a" * 4_000_000), again, 1_000)


BOMBS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "300,000 trials": (sweep_with(many_trials), RESULTS, "ResultsError"),
    "700,000 trials without settings": (sweep_with(empty_trials), RESULTS, "ResultsError"),
    "JSON of 198 MB": (history(lambda: b"[" + b"[]," * 66_000_000 + b"1]"), RESULTS, "larger than"),
    "JSON of 20 million lists": (history(lambda: b"[" + b"[]," * 19_000_000 + b"1]"), RESULTS, "items, of"),
    "a directory in predictions": (lambda f: long_directory(f / "transfer/predictions.npz"), PREDICTIONS, "larger"),
    "a network larger than its weights": (with_head, MODEL, "where the trial has"),
    "a header in weights": (lambda f: long_header(f / "transfer/best.safetensors"), MODEL, "bytes long"),
    "packed weights": (lambda f: packed_tensor(f.parent / "weights"), WEIGHTS, "compressed"),
    "a directory in weights": (lambda f: long_directory(f.parent / "weights"), WEIGHTS, "whose directory has"),
    "a header in weights of others": (lambda f: long_header(f.parent / "weights"), WEIGHTS, "bytes long"),
    "a packed checkpoint": (as_state(packed_tensor), STATE, "CheckpointError"),
    "a directory in a checkpoint": (as_state(long_directory), STATE, "CheckpointError"),
    "a key in a checkpoint": (small_state(one_key), STATE, "too long to look up"),
    "one hash in a checkpoint": (small_state(one_hash), STATE, "too long to look up"),
    "copies in a checkpoint": (small_state(copies), STATE, "over and over"),
    "bytes in a checkpoint": (
        small_state(lambda: pickles.called("builtins.bytearray", pickles.number(3 * 10**9))),
        STATE,
        "CheckpointError",
    ),
    "instructions in a checkpoint": (small_state(most_instructions), STATE, "{0: [], 1: []"),
    "a key in weights": (small_weights(one_key), WEIGHTS, "too long to look up"),
    "a storage in weights": (small_weights(lambda: pickles.storage(10**9)), WEIGHTS, "not as large as"),
    "a tensor in weights": (small_weights(lambda: pickles.tensor((10**9,), (1,))), WEIGHTS, "beyond its storage"),
    "instructions in weights": (small_weights(most_instructions), WEIGHTS, "storage key '0' not found"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_in_a_gigabyte_and_seconds(tmp_path: Path, what: str) -> None:
    spoil, reader, answer = BOMBS[what]
    folder = write_sweep(tmp_path / "sweep", {"transfer": (1, 1)}, data={"test_images": 20})
    add_predictions(folder, np.arange(20).tolist())
    spoil(folder.path)
    assert answer in measured(what, reader, tmp_path)["said"]


def measured(what: str, reader: str, around: Path) -> dict[str, Any]:
    """What a process of its own, in the folder around "sweep", says, and what else it prints; within the bounds."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAYCIFAR_CACHE": str(around / "cache")}
    command = [sys.executable, "-c", MEASURE.format(reader)]
    done = subprocess.run(command, cwd=around, env=environment, capture_output=True, text=True, check=False)
    *_, last = done.stdout.splitlines()
    used: dict[str, Any] = json.loads(last) | {"printed": done.stdout + done.stderr}
    assert used["bytes"] < BYTES, used
    assert used["seconds"] < SECONDS, used
    print(f"{what}: {used['seconds']:.1f} s, {used['bytes'] / 1e6:.0f} MB")  # pytest -s
    return used


ANALYZE = "__import__('raycifar.commands.analyze').commands.analyze.main(['sweep'])"
RUN = (
    "__import__('raycifar.commands.run_sweep').commands.run_sweep.main("
    "['sweep.toml', '--gpus=0', '--storage=.', '--name=sweep'])"
)
TOO_MANY = "holds more than 100,000 files and folders"
MILLION = {  # whose record stands among the folders, what is done, and what is said of it
    "a report on a sweep": ("sweep.json", ANALYZE, "58.37 % of the test images right"),
    "a report on a search": ("search.json", ANALYZE, "a search, not a sweep"),
    "the resume of a sweep": ("sweep.json", RUN, "Nothing to do"),
    "the resume of a search": ("search.json", RUN, TOO_MANY),
}


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A million folders among which a sound sweep lies, or a sound search."""
    memory = Path("/dev/shm")  # where it takes seconds, and on some disks minutes
    is_roomy = memory.is_dir() and os.statvfs(memory).f_favail > 1_100_000
    around = Path(tempfile.mkdtemp(dir=memory if is_roomy else tmp_path_factory.mktemp("million")))
    write_sweep(around / "sweep", {"transfer": (1, 1)})
    shutil.copy(around / "sweep" / "sweep.json", around / "sound.json")
    for number in range(1_000_000):
        os.mkdir(around / "sweep" / f"sample-{number:04}")
    yield around
    subprocess.run(["rm", "-rf", around], check=True)  # pytest would keep it


@pytest.mark.parametrize("what", MILLION)
def test_a_million_folders_take_a_gigabyte_and_seconds_at_most(million: Path, what: str) -> None:
    name, command, answer = MILLION[what]
    folder, file = million / "sweep", million / "sweep.toml"
    for other in ("sweep.json", "search.json"):
        (folder / other).unlink(missing_ok=True)
    if name == "sweep.json":
        shutil.copy(million / "sound.json", folder / name)
        file.write_text(SWEEP)
    else:
        search_folders.write_record(folder)
        file.write_text(search_folders.FILE)
    assert answer in measured(what, command, million)["printed"]
