"""predictions.npz and the test images, read with suspicion. The predictions are synthetic."""

import io
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.npyio import NpzFile
from safetensors.numpy import load_file

from raycifar.analysis.predictions import Predictions, load_images, most_bytes, read_predictions
from raycifar.analysis.results import read_results
from raycifar.config.datasets import CIFAR10
from raycifar.storage.folders import SweepFolder
from tests.support.paths import SAMPLE
from tests.support.sweep_folders import add_predictions, write_failure, write_sweep

N = 160  # the sample's test images


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    folder = write_sweep(tmp_path / "s", {"transfer": (2, 2), "scratch": (1, 2)}, data={"test_images": N})
    add_predictions(folder, range(N))
    return folder


def predictions(folder: SweepFolder) -> Predictions:
    return read_predictions(read_results(folder.path))


def rewrite(folder: SweepFolder, trial: str, **changes: object) -> Path:
    path = folder.trial(trial).predictions
    np.savez_compressed(path, **{**np.load(path), **changes})
    return path


def test_every_finished_trial_is_there_with_its_test_accuracy(sweep: SweepFolder) -> None:
    found = predictions(sweep)
    summaries = [sweep.trial(t.trial).summary() for t in found.trials]
    assert [t.arm for t in found.trials] == ["transfer", "transfer", "scratch"]
    assert [t.right.mean() for t in found.trials] == [summary.test_accuracy for summary in summaries if summary]
    assert not found.problems


def test_the_confidence_is_the_softmax_of_the_class_that_was_given(sweep: SweepFolder) -> None:
    tested = predictions(sweep).trials[0]
    logits = np.load(sweep.trial(tested.trial).predictions)["logits"].astype(float)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert tested.confidence == pytest.approx(softmax.max(1), rel=1e-5)


def test_a_trial_that_has_not_finished_is_left_out(sweep: SweepFolder) -> None:
    write_failure(sweep, "scratch", "boom")
    assert [t.trial for t in predictions(sweep).trials] == ["transfer-1", "transfer-2"]


def test_missing_predictions_are_counted(sweep: SweepFolder) -> None:
    sweep.trial("transfer-1").predictions.unlink()
    found = predictions(sweep)
    assert (found.missing, len(found.trials), found.problems) == (1, 2, [])


def members(path: Path, logits: bytes) -> None:
    """An archive with these bytes where an array of logits should be."""
    labels = io.BytesIO()
    np.save(labels, np.zeros(N, int))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", logits)
        archive.writestr("labels.npy", labels.getvalue())


def marked_as_encrypted(path: Path) -> None:
    """The flag in both of the archive's descriptions of each member; nothing is encrypted."""
    content = bytearray(path.read_bytes())
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(sign)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(sign, at + 4)
    path.write_bytes(content)


def packed(path: Path, method: int, damaged: int = 0) -> None:
    """The same arrays, compressed in another way, some of the compressed bytes overwritten."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        arrays = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, array in arrays.items():
            archive.writestr(name, array)
    content = bytearray(path.read_bytes())
    begin = 30 + len(next(iter(arrays))) + 9  # behind the member's header and the properties of LZMA
    content[begin : begin + damaged] = b"\xff" * damaged
    path.write_bytes(content)


def header(text: str) -> bytes:
    """Of an array in NumPy's format, and some bytes of it."""
    written = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(written).to_bytes(2, "little") + written + bytes(64)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "not a zip file"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:500]), "not a zip file"),
    "no logits": (lambda path: np.savez(path, labels=np.zeros(N)), "logits"),
    "wrong shape": (lambda path: np.savez(path, logits=np.zeros((N, 9)), labels=np.zeros(N, int)), r"shape \(160, 9\)"),
    "not finite": (lambda path: np.savez(path, logits=np.full((N, 10), np.nan), labels=np.zeros(N, int)), "finite"),
    "text": (lambda path: np.savez(path, logits=np.full((N, 10), "a"), labels=np.zeros(N, int)), "finite"),
    "no class": (lambda path: np.savez(path, logits=np.zeros((N, 10)), labels=np.full(N, 10)), "from 0 to 9"),
    "a pickle": (lambda path: np.savez(path, logits=np.array([{}]), labels=np.zeros(1, int)), "allow_pickle=False"),
    "no array": (lambda path: members(path, b"no array"), "its logits are no array"),
    "a broken header": (lambda path: members(path, header("{'descr': '<f4', (")), "header|parse|EOF|never closed"),
    "an absurd shape": (
        lambda path: members(path, header("{'descr': '<f4', 'fortran_order': False, 'shape': (9" + 30 * "9" + ",)}")),
        "",
    ),
    "labels of several fields": (
        lambda path: np.savez(path, logits=np.zeros((N, 10)), labels=np.zeros(N, [("a", "i4"), ("b", "i4")])),
        "",
    ),
    "encrypted": (marked_as_encrypted, "encrypted"),
    "damaged deflate": (lambda path: packed(path, zipfile.ZIP_DEFLATED, 50), "Error -3"),
    "damaged LZMA": (lambda path: packed(path, zipfile.ZIP_LZMA, 50), ""),
    "bzip2": (lambda path: packed(path, zipfile.ZIP_BZIP2), "NumPy does not write"),
    "a nested header": (
        lambda path: members(path, header("{'descr':'<i8','fortran_order':False,'shape':(" + "-" * 4000 + "1,)}")),
        "recursion|nested",
    ),
    "many arrays": (lambda path: np.savez(path, **{f"a{i}": np.zeros(1) for i in range(200)}), "200 arrays, of 100"),
    "a pipe": (lambda path: [path.unlink(), os.mkfifo(path)], "not a file but a pipe"),
    "huge": (
        lambda path: np.savez_compressed(path, logits=np.zeros(most_bytes(CIFAR10)), labels=np.zeros(1)),
        "larger than",
    ),
    "of another trial": (
        lambda path: np.savez(path, logits=np.eye(10)[[0] * N], labels=np.zeros(N, int)),
        "100.00 % of",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named_and_the_others_are_read(sweep: SweepFolder, what: str) -> None:
    spoil, why = BAD[what]
    path = sweep.trial("transfer-2").predictions
    spoil(path)
    found = predictions(sweep)
    assert [t.trial for t in found.trials] == ["transfer-1", "scratch"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith(str(path))
    assert re.search(why, found.problems[0])


def test_only_the_arrays_that_are_needed_are_unpacked(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(sweep, "scratch", others=np.zeros(9))
    read, names = NpzFile.__getitem__, []

    def noted(file: NpzFile, name: str) -> object:
        names.append(name)
        return read(file, name)

    monkeypatch.setattr(NpzFile, "__getitem__", noted)
    assert not predictions(sweep).problems
    assert set(names) == {"logits", "labels", "index"}


def test_trials_tested_on_other_images_are_counted_and_left_out(sweep: SweepFolder) -> None:
    rewrite(sweep, "scratch", index=np.arange(N) + 1)
    found = predictions(sweep)
    assert ([t.arm for t in found.trials], found.elsewhere) == (["transfer", "transfer"], 1)


def sample_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar10.safetensors").symlink_to(SAMPLE)
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path))


def test_the_images_are_those_of_the_index(sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample_cache(tmp_path, monkeypatch)
    real = load_file(SAMPLE)
    index = np.argsort(real["test_labels"], kind="stable")[::-1].copy()
    for trial in ("transfer-1", "transfer-2", "scratch"):
        labels = real["test_labels"][index]
        right = read_results(sweep.path).trials.set_index("trial").loc[trial, "test_accuracy"]
        said = np.where(np.arange(N) < round(right * N), labels, (labels + 1) % 10)
        rewrite(sweep, trial, logits=np.eye(10, dtype=np.float32)[said], labels=labels, index=index)
    images, why = load_images(predictions(sweep).trials[0].tests)
    assert why == ""
    assert np.array_equal(images, real["test_images"][index].transpose(0, 2, 3, 1))


def test_images_whose_labels_differ_are_not_believed(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_cache(tmp_path, monkeypatch)
    images, why = load_images(predictions(sweep).tests)
    assert images is None
    assert "are not those that the trials were tested on" in why


def test_without_the_cache_the_images_are_not_at_hand(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "none"))
    images, why = load_images(predictions(sweep).tests)
    assert images is None
    assert "not in the cache here" in why


def test_a_subset_without_its_index_has_no_images(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 2)}, data={"test_images": N})
    add_predictions(folder)
    images, why = load_images(predictions(folder).tests)
    assert images is None
    assert "does not say which" in why


def test_predictions_that_are_one_image_off_are_another_trials(sweep: SweepFolder) -> None:
    trial = sweep.trial("scratch")
    trial.write_summary(replace(trial.summary(), test_accuracy=trial.summary().test_accuracy + 1 / N))
    assert "of them are right, where summary.json says" in predictions(sweep).problems[0]


def test_the_whole_test_set_needs_no_index(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"transfer": (1, 2)})
    add_predictions(folder)
    assert np.array_equal(predictions(folder).tests.index, np.arange(10_000))


def with_facts(folder, facts):
    folder.write_record(replace(folder.record(), facts=facts.model_dump(mode="json"), data=facts.digest))


MANY = CIFAR10.model_copy(
    update={"classes": tuple(f"class {i}" for i in range(300)), "train": (200,) * 300, "test": (1,) * 300}
)


def test_more_classes_than_a_byte_can_count_are_told_apart(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"scratch": (1, 2)})
    with_facts(folder, MANY)
    trial = folder.trial("scratch")
    labels = np.arange(300)
    trial.write_summary(replace(trial.summary(), test_accuracy=1.0, test_images=300))
    np.savez_compressed(trial.predictions, logits=np.eye(300, dtype=np.float32), labels=labels, index=labels)
    (tested,) = read_predictions(read_results(folder.path)).trials
    assert tested.predicted.tolist() == tested.tests.labels.tolist() == labels.tolist()
    assert tested.tests.facts.classes == MANY.classes


def test_todays_files_of_ten_classes_are_read_as_bytes(tmp_path):
    folder = write_sweep(tmp_path / "sweep")
    add_predictions(folder)
    tested = read_predictions(read_results(folder.path)).trials[0]
    assert (tested.predicted.dtype, tested.tests.labels.dtype) == (np.uint8, np.uint8)
