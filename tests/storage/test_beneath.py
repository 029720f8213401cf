"""Writing and deleting beneath a folder that may hold a stranger's links: what lies outside stays as it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raycifar.storage import beneath
from raycifar.storage.beneath import (
    Beneath,
    LinkError,
    delete,
    make_folder,
    names_in,
    new_folder,
    rename,
    sweep_leftovers,
    write_bytes,
)
from tests.support.canaries import canaries, seen


@pytest.fixture
def root(tmp_path):
    """A folder of results; beside it lies what nobody may touch."""
    canaries(tmp_path / "outside")
    (tmp_path / "results" / "a" / "checkpoint_000001").mkdir(parents=True)
    return Beneath(tmp_path / "results")


@pytest.fixture
def outside(tmp_path, root):
    """The folder outside; after the test it is as it was before."""
    before = seen(tmp_path / "outside")
    yield tmp_path / "outside"
    assert seen(tmp_path / "outside") == before


THROUGH_LINKS = {
    "write": lambda place: write_bytes(place / "thesis.tex", b"new"),
    "make a folder": lambda place: make_folder(place / "figures"),
    "make one folder": lambda place: new_folder(place / "new"),
    "delete": lambda place: delete(place / "error.json"),
    "delete a folder": lambda place: delete(place / "checkpoint_000001"),
    "rename": lambda place: rename(place / "thesis.tex", "other.tex"),
    "list": names_in,
    "sweep": sweep_leftovers,
}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("call", THROUGH_LINKS.values(), ids=THROUGH_LINKS)
def test_a_link_in_a_folders_place_is_refused_with_its_path(root, outside, call, depth):
    link = root / "linked"
    link.path.symlink_to(outside)
    with pytest.raises(LinkError, match=r"results/linked: is a link, expected a folder of its own$"):
        call(link if depth == 1 else link / "folder")


def test_a_file_in_a_folders_place_is_refused_with_its_path(root):
    (root / "analysis").path.write_text("")
    with pytest.raises(LinkError, match=r"results/analysis: is no folder, expected a folder of its own"):
        make_folder(root / "analysis" / "figures")


@pytest.mark.parametrize("put", [os.symlink, os.link])
def test_a_link_in_a_files_place_is_replaced_and_not_written_through(root, outside, put):
    put(outside / "thesis.tex", (root / "report.md").path)
    write_bytes(root / "report.md", b"new")
    assert (root / "report.md").path.read_bytes() == b"new"
    assert not (root / "report.md").path.is_symlink()


@pytest.mark.parametrize("put", [os.symlink, os.link])
def test_deleting_a_link_leaves_what_it_leads_to(root, outside, put):
    put(outside / "thesis.tex", (root / "error.json").path)
    delete(root / "error.json")
    assert not os.path.lexists((root / "error.json").path)


def test_deleting_a_folder_follows_no_link_in_it(root, outside):
    checkpoint = root / "a" / "checkpoint_000001"
    (checkpoint / "state.pt").path.symlink_to(outside / "thesis.tex")
    (checkpoint / "more").path.symlink_to(outside)
    delete(checkpoint)
    assert names_in(root / "a") == []


def test_a_link_to_a_folder_that_would_be_deleted_goes_alone(root, outside):
    (root / "a" / "checkpoint_000002").path.symlink_to(outside)
    delete(root / "a" / "checkpoint_000002")
    assert names_in(root / "a") == ["checkpoint_000001"]


def test_the_users_own_link_to_the_folder_is_followed(root, tmp_path):
    (tmp_path / "mine").symlink_to(root.path)
    write_bytes(Beneath(tmp_path / "mine") / "a" / "b.json", b"1")
    assert (root / "a" / "b.json").path.read_bytes() == b"1"


@pytest.mark.parametrize("name", ["thesis.tex", "a", ".bashrc", "checkpoint_1", "notes.md", "best.safetensors"])
def test_what_the_product_does_not_delete_is_never_deleted(root, name):
    with pytest.raises(ValueError, match="not written by this product"):
        delete(root / name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\0"])
def test_a_name_that_is_a_way_is_refused(root, name):
    with pytest.raises(ValueError, match="expected the name of a file"):
        root / name


@pytest.mark.parametrize(
    ("path", "roots", "names"),
    [
        ("/r/q/analysis", ["/r/q"], ("analysis",)),
        ("/r/q", ["/r/q"], ()),
        ("/r/p/analysis/x", ["/r/q", "/r/p"], ("analysis", "x")),
        ("/elsewhere/out", ["/r/q"], ()),
        ("/r/q/../out", ["/r/q"], ()),
    ],
)
def test_what_the_user_named_outside_the_results_is_a_root_of_its_own(path, roots, names):
    place = Beneath.of(Path(path), *map(Path, roots))
    assert (place.path, place.names) == (Path(path), names)


def test_an_error_names_the_whole_path(root):
    (root / "report.md").path.mkdir()
    with pytest.raises(OSError, match=r".") as refusal:
        write_bytes(root / "report.md", b"")
    assert refusal.value.filename == str((root / "report.md").path)
    assert sorted(names_in(root)) == ["a", "report.md"]


KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from raycifar.storage.beneath import write_bytes
os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
write_bytes(Path(sys.argv[1]), b"new")
"""


def test_what_a_killed_writer_leaves_is_swept_once_it_is_old_enough_and_nothing_else(root):
    writer = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RENAME, (root / "r.md").path], check=False)
    assert writer.returncode == -signal.SIGKILL
    (left,) = [name for name in names_in(root) if name != "a"]
    sweep_leftovers(root, older_than=3600)
    assert left in names_in(root)  # another process may be at work
    sweep_leftovers(root)
    assert names_in(root) == ["a"]


def test_temporary_names_cannot_be_guessed(root, monkeypatch):
    drafts = []
    monkeypatch.setattr(os, "replace", lambda draft, *_, **__: drafts.append(draft))
    for _ in range(3):
        write_bytes(root / "a.json", b"")
    assert len({*drafts}) == 3
    assert not [draft for draft in drafts if str(os.getpid()) in draft.partition("-")[0] or len(draft) < 25]


def test_a_folder_of_too_many_files_is_refused_at_once(root, monkeypatch):
    monkeypatch.setattr(beneath, "MOST_NAMES", 1)
    (root / "b").path.mkdir()
    with pytest.raises(OSError, match="holds more than 1 files and folders"):
        names_in(root)
