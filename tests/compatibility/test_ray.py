"""A search of the version before the restructure goes on, on a real Ray."""

import io
import json

import pytest
from rich.console import Console

from raycifar.execution.options import Options
from raycifar.search.records import SearchFolder
from raycifar.search.search import run_search
from raycifar.search.spec import load_search
from tests.compatibility.files import HERE, copied

pytestmark = [pytest.mark.ray, pytest.mark.assets]
LAST = "sample-0006"


def test_a_search_interrupted_in_its_last_sample_draws_no_other_and_ends_it(tmp_path):
    folder = SearchFolder(copied(tmp_path, "search") / "search")
    before = folder.samples()
    drawn = {"name": LAST, "settings": before[-1].settings}
    (folder.path / LAST / "sample.json").write_text(json.dumps(drawn))
    (folder.path / LAST / "history.json").unlink()
    for table in (folder.best, folder.table):
        table.unlink()
    assert run_search(load_search(HERE / "search.toml"), folder.path, Options(gpus=0), Console(file=io.StringIO()))
    after = folder.samples()
    assert after[:-1] == before[:-1]
    assert (after[-1].settings, after[-1].outcome) == (before[-1].settings, "finished")
    assert after[-1].best_val_accuracy == pytest.approx(before[-1].best_val_accuracy, abs=0.1)
    assert folder.best.exists()
    assert folder.table.read_text().count("\n") == 1 + len(before)
