"""The tests of what computes otherwise on a GPU: fused batch norm, the step as one CUDA graph, Muon."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

from benchmarks.common import Table, parser, publish, surroundings

ROOT = Path(__file__).parent.parent
FILES = ("tests/networks/test_fused_norm.py", "tests/training/test_step.py", "tests/training/test_muon.py")


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    where = surroundings()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *FILES]
        status = subprocess.run(command, cwd=ROOT, check=False).returncode
        if status == 0:
            publish(args, where, [results(report)])
    return status


def results(report: Path) -> Table:
    """By file: how many tests passed, how many were skipped, and their seconds. Of pytest's JUnit file, all passed."""
    rows: dict[str, tuple[int, int, float]] = {}
    for case in Xml.parse(report).iter("testcase"):  # noqa: S314  # pytest wrote it a moment ago
        passed, skipped, seconds = rows.get(case.attrib["classname"], (0, 0, 0.0))
        out = case.find("skipped") is not None
        seconds += float(case.attrib["time"])
        rows[case.attrib["classname"]] = (passed + (not out), skipped + out, seconds)
    return Table("Tests", ("", "passed", "skipped", "s"), [(name, *counts) for name, counts in rows.items()])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    return parser("checks", (__doc__ or "").partition("\n\n")[0]).parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
