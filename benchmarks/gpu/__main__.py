"""As much as fits into a GPU's minutes: measurements in the order of their worth, within a budget in seconds.

Each part is a benchmark's command in a process of its own. A part begins only where its estimate fits into what is
left of the budget, which then is its hard limit. What a part measured is written once it has ended well, into gpu.json
of the folder; the same command goes on with what is missing there. Trainings resume. --device cpu tries the same list
at tiny size.
"""

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from benchmarks.common import Table, count, markdown_table, refuse
from benchmarks.gpu import processes
from benchmarks.gpu.parts import DEVICES, FOLDER, MARKS, Part, listed
from benchmarks.gpu.record import DONE, FAILED, OUT_OF_TIME, Outcome, Record, opened, result_in
from benchmarks.gpu.schedule import work
from raycifar.errors import InputError

# A CPU stands for a GPU also where there is one, and takes none of it.
SETTINGS = {"cuda": {}, "cpu": {"CUDA_VISIBLE_DEVICES": ""}}
HARDWARE = (
    "from raycifar.devices import hardware; import torch; print(hardware(), torch.cuda.is_available(), sep='\\n')"
)
SAID = 2000  # characters of a part's output that are kept where it is not done


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    if args.list:
        print(markdown_table(list_of(DEVICES[args.device])))
        return 0
    began = time.monotonic()
    folder = args.folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            record = opened(folder / "gpu.json", machine(args.device), args.device)
            _interrupt_at_sigterm()
            budget = args.budget - (time.monotonic() - began)
            work(DEVICES[args.device], record, budget, time.monotonic, partial(measure, folder, args.device))
    except (InputError, OSError) as error:
        return refuse("gpu", error)
    except Timeout:
        return refuse("gpu", f"--folder {folder}: another call measures into it: wait, or name another folder")
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    return _told(record, args.device)


def measure(folder: Path, device: str, part: Part, limit: float) -> Outcome:
    """The part's command, for at most `limit` seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        written, log = Path(scratch) / "result.json", Path(scratch) / "log"
        module, *options = [word.replace(FOLDER, str(folder)) for word in part.command]
        command = [sys.executable, "-m", f"benchmarks.{module}", "--json", str(written), *options]
        status = processes.run(command, SETTINGS[device], limit, log)
        seconds, result = round(time.monotonic() - began, 2), result_in(written)
        if status == 0 and result is not None:
            return Outcome(DONE, seconds, result=result)
        end = log.read_text(errors="replace")[-SAID:]
    if status is None:
        return Outcome(OUT_OF_TIME, seconds, said=end)
    return Outcome(FAILED, seconds, said=f"{shlex.join(command[1:])}: exit status {status}\n{end}")


def machine(device: str) -> str:
    """What is measured, asked in another process, so that this one takes no memory of a GPU. Raises InputError."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        status = processes.run([sys.executable, "-c", HARDWARE], SETTINGS[device], 120, log)
        lines = log.read_text(errors="replace").splitlines()
    if status or len(lines) < 2:
        raise InputError(f"--device {device}: PyTorch does not start: {' '.join(lines[-1:])}")
    if device == "cuda" and lines[-1] != "True":
        raise InputError("--device cuda: PyTorch sees no GPU here: --device cpu tries the list at tiny size")
    return lines[-2]


def list_of(parts: Sequence[Part]) -> Table:
    columns = ("part", "what it tells", "s, estimated", "s up to its end", "within")
    return Table("", columns, listed(parts), f"Marks: {' and '.join(map(str, MARKS))} s.")


def _told(record: Record, device: str) -> int:
    """Say what there is; 1 where a part failed."""
    parts = DEVICES[device]
    failed = [name for name, outcome in record.parts.items() if outcome.state == FAILED]
    for name in failed:
        print(f"--- {name} failed:\n{record.parts[name].said}", file=sys.stderr)
    done = sum(record.is_done(part.name) for part in parts)
    rest = "" if done == len(parts) else "; the same command goes on"
    print(f"{done} of {len(parts)} parts are done: {record.path}{rest}")
    return 1 if failed else 0


def _interrupt_at_sigterm() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    description = (__doc__ or "").partition("\n\n")[0]
    made = argparse.ArgumentParser("python -m benchmarks.gpu", description=description, allow_abbrev=False)
    made.add_argument("--budget", type=count, default=600, metavar="SECONDS", help="for all parts (default: 600)")
    made.add_argument("--device", choices=DEVICES, default="cuda", help="cpu: the same at tiny size (default: cuda)")
    made.add_argument("--folder", type=Path, help="of gpu.json and of the trainings (default: .gpu/DEVICE)")
    made.add_argument("--list", action="store_true", help="show the parts with their estimates, and measure nothing")
    args = made.parse_args(arguments)
    args.folder = args.folder or Path(".gpu") / args.device
    return args


if __name__ == "__main__":
    sys.exit(main())
