"""Own images from the command line: what is shown and recorded, and what is refused before anything starts."""

import json
import os

import pytest

import raycifar.execution.runners
from raycifar.commands import run_sweep
from raycifar.trained_model import load_model
from tests.support.hostile import everything
from tests.support.own_images import pictures, write_folder

FILE = """
[defaults]
epochs = 1
batch_size = 4
model = { weights = "random" }
data = { path = "leaves", side = 32 }
[[trials]]
name = "a"
[[trials]]
name = "b"
"""
SPLIT = {"train/ash": 12, "train/elm": 8, "test/ash": 3, "test/elm": 2}


@pytest.fixture(autouse=True)
def without_ray(monkeypatch, cache, no_leaving):
    monkeypatch.setattr(raycifar.execution.runners, "start_ray", lambda *_: pytest.fail("started Ray"))


@pytest.fixture
def place(tmp_path):
    """A folder with a sweep file and the images beside it."""
    (tmp_path / "s.toml").write_text(FILE)
    write_folder(tmp_path / "leaves", SPLIT)
    return tmp_path


@pytest.fixture
def command(capsys, place):
    """Calls run_sweep.py; returns its exit status, what it printed, and its errors."""

    def call(*arguments):
        status = run_sweep.main([str(place / "s.toml"), f"--storage={place / 'results'}", "--local", *arguments])
        return status, *capsys.readouterr()

    return call


def digest(out):
    return out.partition("digest ")[2].split()[0]


def test_a_dry_run_says_what_was_read_and_how_it_was_cut(command):
    status, out, _ = command("--dry-run")
    assert status == 0
    assert "leaves: 2 classes, 20 training and 5 test images, 32 x 32 pixels, digest " in out
    assert "leaves: splits as given; 0 images in two splits" in out


def test_a_relative_path_begins_at_the_sweep_files_folder_and_one_that_is_typed_where_one_stands(
    command, place, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_folder(elsewhere / "oaks", SPLIT)
    monkeypatch.chdir(elsewhere)
    assert "leaves: 2 classes" in command("--dry-run")[1]
    assert "oaks: 2 classes" in command("--dry-run", "--set=data.path=oaks")[1]


@pytest.mark.slow
def test_a_sweep_of_own_images_is_recorded_resumed_loaded_and_guarded(command, place, cache):
    status, out, _ = command("--only=a")
    assert status == 0
    record = json.loads((place / "results/s/sweep.json").read_text())
    assert record["data"].startswith(digest(out))
    assert (record["facts"]["classes"], record["facts"]["train"]) == (["ash", "elm"], [12, 8])
    model = load_model(place / "results/s")
    assert model.classes == ("ash", "elm")

    # Other images under the same path, and the former ones again; nothing of the results is touched.
    extra = place / "leaves/train/ash/99.png"
    next(iter(pictures())).rotate(90).save(extra)
    before = everything(place / "results")
    for arguments in ([], ["--only=a"], ["--dry-run"]):
        status, _, errors = command(*arguments)
        assert status == 2
        line = f"its trials read leaves with digest {digest(out)}, not "
        assert line in errors
        assert "choose another --name, or restore the images" in errors
    assert everything(place / "results") == before
    extra.unlink()
    (place / "leaves").rename(place / "moved")
    (place / "moved/leaves").mkdir()
    assert command("--only=a")[0] == 2
    (place / "moved/leaves").rmdir()
    (place / "moved").rename(place / "leaves")
    assert command("--only=a")[0] == 0


REFUSED = {
    "two sources": (["--set=b.data.path=oaks"], "trial 'b': data.path = "),
    "a name and a path": (["--set=data.name=fashion_mnist"], "exclude each other: keep one of them"),
    "a path and --data": (["--data=."], "leave one of them out"),
    "no multiple of eight": (["--set=data.side=30"], "expected a multiple of 8, such as 32"),
    "too large a side": (["--set=data.side=4000"], "data.side = 4000"),
    "a flip of what has no mirror image": (
        ["--set=data.mirror=false", "--set=augmentation.flip=random"],
        'augmentation.flip = "random": data.mirror = false says that a mirror image is another class',
    ),
    "a pattern that is none": (["--set=data.groups='name:('"], "is no pattern"),
    "a pattern without brackets": (["--set=data.groups='name:x'"], "put what names the group in one pair of brackets"),
    "more held out than there are": (["--set=data.holdout_images=19"], "leaves has 20 training images"),
    "more tested than there are": (["--set=data.test_images=6"], "leaves has 5 test images: lower it"),
    "a batch larger than what trains": (["--set=batch_size=19"], "batch_size = 19 must not exceed the 18 images"),
    "no such folder": (
        ["--set=data.path=nowhere"],
        "no such folder; a relative path begins at the sweep file's folder",
    ),
}


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize(("arguments", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_suit_is_refused_in_one_line_and_nothing_is_written(command, place, arguments, line, more):
    status, out, errors = command(*arguments, *more)
    said = [text for text in errors.splitlines() if "reading images" not in text and text]
    assert (status, len(said)) == (2, 1)
    assert line in said[0]
    assert not (place / "results").exists()
    assert "digest" not in out


@pytest.mark.parametrize("setting", ["side=64", "resize=pad", "test=0.3", "groups=patient", "corrupt=skip"])
def test_settings_of_own_images_decide_nothing_of_what_is_built_in(command, place, setting):
    (place / "s.toml").write_text(FILE.replace('data = { path = "leaves", side = 32 }', ""))
    status, _, errors = command(f"--set=data.{setting}", "--dry-run")
    assert status == 2
    assert f"data.{setting.partition('=')[0]} decides nothing without data.path" in errors


def test_a_path_may_move_and_its_sweep_goes_on(command, place):
    from raycifar.config.sweep_file import load_sweep

    other = place / "other"
    other.mkdir()
    (other / "s.toml").write_text(FILE)
    here, there = load_sweep(place / "s.toml"), load_sweep(other / "s.toml")
    assert here.data.path != there.data.path
    assert here.fingerprint() == there.fingerprint()
    assert os.path.isabs(here.data.path)
