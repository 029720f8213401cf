"""The tracker's recipe in docs/architecture.md, followed to the letter in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from raycifar.storage.folders import SweepFolder
from tests.support.paths import ROOT, SAMPLE

pytestmark = pytest.mark.slow
RECIPE = re.search(r"### Add a tracker\n(.*?)### ", (ROOT / "docs/architecture.md").read_text(), re.DOTALL)[1]
FILE = """
name = "tiny"
[[trials]]
name = "a"
epochs = 2
batch_size = 20
model = { weights = "random", train = "head" }
data = { train_images = 20, holdout_images = 10, test_images = 10 }
"""
RUN = """
import sys
from pathlib import Path
import raycifar.execution.runners
from raycifar.commands.run_sweep import main
from raycifar.training.trial import Assets
sample = Path(sys.argv.pop())
raycifar.execution.runners.fetch_assets = lambda *_: Assets(sample, None)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def copy(tmp_path):
    """The package with the recipe's tracker."""
    shutil.copytree(ROOT / "raycifar", tmp_path / "raycifar", ignore=shutil.ignore_patterns("__pycache__"))
    (path,) = re.findall(r"1\. `(raycifar/tracking/\w+\.py)`", RECIPE)
    code = textwrap.dedent(re.search(r" *```python\n(.*?) *```", RECIPE, re.DOTALL)[1])
    (name,) = re.findall(r"^class (\w+)\(Tracker\)", code, re.MULTILINE)
    (tmp_path / path).write_text(code)
    registry = tmp_path / re.search(r"2\. `([\w/]+\.py)`: its import, and its name in `TRACKERS`", RECIPE)[1]
    text = registry.read_text()
    registered = re.sub(r"(for tracker in \(.*)\)", rf"\1, {name})", text)
    module = path.removesuffix(".py").replace("/", ".")
    taken = f"from {module} import {name}\n"
    registry.write_text(registered.replace("from raycifar.tracking.mlflow", f"{taken}from raycifar.tracking.mlflow", 1))
    return tmp_path


def test_the_recipes_tracker_logs_every_epoch_of_a_sweep(copy):
    (copy / "tiny.toml").write_text(FILE)
    arguments = ["tiny.toml", "--local", "--gpus=0", "--log=lines", "--storage=results", str(SAMPLE)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    epochs = SweepFolder(copy / "results/tiny").trial("a").history().epochs
    logged = [line.split() for line in (copy / "results/tiny/lines.txt").read_text().splitlines()]
    assert logged == [["a", str(record.epoch), str(record.val_accuracy)] for record in epochs]
    assert len(logged) == 2
