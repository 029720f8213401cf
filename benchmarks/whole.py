"""A whole sweep as one command: its wall clock, and what its trials reached. Options of run_sweep.py follow `--`.

The sweep's folder stays in --storage: where a call was cut short, the next one resumes, and then there is no wall clock
of the whole. --pack keeps what results/ keeps of a sweep: all but checkpoints and weights.
"""

import argparse
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Cell, Table, parser, publish, refuse, surroundings
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import TrialSummary

ROOT = Path(__file__).parent.parent
KEPT = (".json", ".npz", ".md")


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    storage = args.storage.absolute()
    command = [sys.executable, "run_sweep.py", "--storage", str(storage), *args.options]
    started = time.time()
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    wall = time.time() - started
    if status:
        return refuse("whole", f"run_sweep.py: exit status {status}") and status
    (path,) = storage.iterdir()
    folder = SweepFolder(path)
    publish(args, where, [tried(folder, wall, shown_options(args.options))])
    if args.pack:
        pack(path, args.pack)
    return 0


def shown_options(options: Sequence[str]) -> str:
    return f"`run_sweep.py {' '.join(options)}`."


def tried(folder: SweepFolder, wall: float, note: str) -> Table:
    """The wall clock of the command, where there was only one, and the trials."""
    record = folder.record()
    names = [trial["name"] for trial in record.spec["trials"]] if record else []
    summaries = [summary for name in names if (summary := folder.trial(name).summary())]
    whole: Cell = wall if len(folder.invocations()) == 1 else "resumed: not timed"
    rows: list[Sequence[Cell]] = [
        ("the whole command", whole, "", "", "", ""),
        *(_row(summary) for summary in summaries),
    ]
    columns = ("", "s", "seed", "validation, %", "test, %", "flip-averaged, %")
    return Table("Whole sweep", columns, rows, note)


def _row(trial: TrialSummary) -> Sequence[Cell]:
    """A trial's own seconds, which pass beside those of others, and its accuracies."""
    own = (
        trial.startup_seconds + trial.train_seconds + trial.val_seconds + trial.checkpoint_seconds + trial.test_seconds
    )
    shares = (trial.best_val_accuracy, trial.test_accuracy, trial.test_accuracy_flip)
    return trial.trial, own, trial.seed, *("" if share is None else 100 * share for share in shares)


def pack(folder: Path, target: Path) -> None:
    """The sweep's records and predictions as an archive, which is there whole or not at all."""
    beside = target.with_name(f".{target.name}")
    with tarfile.open(beside, "w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.suffix in KEPT and "checkpoint" not in str(path.relative_to(folder)):
                archive.add(path, Path(folder.name) / path.relative_to(folder))
    beside.replace(target)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser("whole", (__doc__ or "").partition("\n\n")[0])
    made.add_argument("--storage", type=Path, required=True, help="folder for this sweep alone")
    made.add_argument("--pack", type=Path, metavar="FILE", help="archive (.tar.gz) of the sweep's records")
    made.add_argument("options", nargs="+", metavar="-- OPTION", help="of run_sweep.py")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
