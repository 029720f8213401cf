"""What of a stranger's results Ray and the trackers would write through, and what is done about it beforehand."""

import os
import re

import pytest

from raycifar.storage.beneath import Beneath, names_in
from raycifar.storage.files import RecordError
from raycifar.storage.foreign import clear_for_ray, refuse_foreign
from tests.support.canaries import canaries, seen

# As Ray 2.60 names them.
RAYS = [
    "tuner.pkl",
    "experiment_state-2026-11-30_14-27-07.json",
    "basic-variant-state-2026-11-30_14-27-07.json",
    "searcher-state-2026-11-30_14-27-07.pkl",
    "search_gen_state-2026-11-30_14-27-07.json",
    ".validate_storage_marker",
]
RAYS_IN_A_TRIAL = ["a/params.json", "a/params.pkl", "a/result.json", "a/progress.csv", "a/events.out.tfevents.1.host"]
OTHERS = ["notes.md", "a/history.json", "a/mine.txt", "analysis"]


@pytest.fixture
def results(tmp_path):
    """A folder of results; what lies outside is the same after the test."""
    canaries(tmp_path / "outside")
    (tmp_path / "results" / "a").mkdir(parents=True)
    before = seen(tmp_path / "outside")
    yield Beneath(tmp_path / "results")
    assert seen(tmp_path / "outside") == before


@pytest.mark.parametrize(
    "put", [os.symlink, os.link, lambda _, name: os.mkfifo(name)], ids=["link", "hard link", "pipe"]
)
def test_what_ray_would_write_through_is_taken_away_and_nothing_else(results, put):
    for name in (*RAYS, *RAYS_IN_A_TRIAL, *OTHERS):
        put(results.root.parent / "outside" / "thesis.tex", results.root / name)
    clear_for_ray(results, ["a", "not begun"])
    assert sorted(names_in(results)) == ["a", "analysis", "notes.md"]
    assert sorted(names_in(results / "a")) == ["history.json", "mine.txt"]


def test_what_ray_wrote_itself_stays(results):
    for name in (*RAYS, *RAYS_IN_A_TRIAL):
        (results.root / name).write_text("")
    clear_for_ray(results, ["a"])
    assert len(names_in(results)) == len(RAYS) + 1
    assert len(names_in(results / "a")) == len(RAYS_IN_A_TRIAL)


REFUSED = {
    "a trial": ("a", os.symlink, "is a link, expected a folder of its own"),
    "a checkpoint": ("a/checkpoint_000002", os.symlink, "is a link, expected a file or folder of its own"),
    "a folder for a summary": ("a/summary.json", lambda _, name: os.mkdir(name), "is a folder or leads to one"),
    "a folder for Ray's": ("a/params.json", lambda _, name: os.mkdir(name), "is a folder or leads to one"),
    "a tracker's folder": ("wandb", os.symlink, "is a link, expected a file or folder of its own"),
    "a tracker's file": ("mlflow.db", os.link, "is a hard link, a second name of another file"),
}


@pytest.mark.parametrize(("name", "put", "line"), REFUSED.values(), ids=REFUSED)
def test_what_leads_out_is_refused_with_its_path(results, name, put, line):
    (results / "a").path.rmdir() if name == "a" else None
    outside = results.root.parent / "outside"
    put(outside / "thesis.tex" if put is os.link else outside, results.root / name)
    with pytest.raises(RecordError, match=re.escape(f"results/{name}: {line}")):
        refuse_foreign(results, ["a", "not begun"], ["mlflow.db", "wandb"])
