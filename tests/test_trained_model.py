"""Which network `load_model` loads, and what it predicts."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import raycifar
from raycifar import load_model, read_results
from raycifar.analysis.report.report import write_report
from raycifar.analysis.trial_state import ResultsError
from raycifar.commands import analyze
from raycifar.config.datasets import CIFAR10, FASHION_MNIST
from raycifar.data.cifar10 import FIRST_LABELS, fetch_cifar10
from raycifar.data.sources import fetch_data
from raycifar.data.splits import load_splits
from raycifar.export import export_model
from raycifar.storage.folders import SweepFolder
from raycifar.trained_model import best_trial
from tests.support.sweep_folders import write_failure, write_sweep


def amend(folder, name, **changes):
    trial = folder.trial(name)
    trial.write_summary(replace(trial.summary(), **changes))


def test_the_best_is_chosen_by_validation_accuracy_and_not_by_test_accuracy(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (3, 1)})
    amend(folder, "transfer-1", best_val_accuracy=0.8, test_accuracy=0.99)
    amend(folder, "transfer-2", best_val_accuracy=0.9, test_accuracy=0.1)
    amend(folder, "transfer-3", best_val_accuracy=0.7, test_accuracy=0.98)
    assert best_trial(folder.path).spec.name == "transfer-2"


def test_a_trials_folder_gives_that_trial(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (3, 1)})
    assert best_trial(f"{folder.path}/transfer-1/").spec.name == "transfer-1"


def test_a_trial_validated_on_its_training_images_is_not_the_best(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer-leaking": (1, 1), "transfer": (1, 1)})
    record = folder.record()
    record.spec["trials"][0]["data"]["validation"] = "train"
    folder.write_record(record)
    amend(folder, "transfer-leaking", best_val_accuracy=1.0, validation="train")
    assert best_trial(folder.path).spec.name == "transfer"


def test_trials_without_a_tested_network_are_passed_over(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (2, 1)})
    write_failure(folder, best_trial(folder.path).spec.name, "lost")
    left = best_trial(folder.path).spec.name
    write_failure(folder, left, "lost")
    with pytest.raises(ResultsError, match=r"no trial has finished.*the same command resumes"):
        load_model(folder.path)


def test_a_trial_that_the_sweep_does_not_have_is_refused(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (1, 1)})
    with pytest.raises(ResultsError, match=r"transferr: no such trial; the sweep has transfer$"):
        load_model(folder.path / "transferr")


def test_results_that_are_kept_without_weights_say_so(tmp_path):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (1, 1)})
    with pytest.raises(
        ResultsError, match=r"best\.safetensors: the trial's weights are not there; restore the file, or run"
    ):
        load_model(folder.path)


@pytest.mark.parametrize("content", [b"", b"no safetensors", "a pipe"])
def test_weights_that_cannot_be_read_are_named(tmp_path, content):
    folder = write_sweep(tmp_path / "sweep", {"transfer": (1, 1)})
    if content == "a pipe":
        os.mkfifo(folder.trial("transfer").best_weights)
    else:
        folder.trial("transfer").best_weights.write_bytes(content)
    with pytest.raises(ResultsError, match=r"best\.safetensors: not the trial's weights .*run the trial again"):
        load_model(folder.path)


@pytest.mark.assets
def test_the_network_is_ready_to_give_the_recorded_predictions_again(real_sweep):
    model = load_model(real_sweep)
    assert not model.network.training
    best = read_results(real_sweep).trials.set_index("trial")["best_val_accuracy"].idxmax()
    assert model.trial.name == best
    test = load_splits(fetch_cifar10(), model.trial.data).test
    recorded = torch.from_numpy(np.load(real_sweep / best / "predictions.npz")["logits"]).softmax(1)
    torch.testing.assert_close(model.predict(test.images), recorded, atol=1e-5, rtol=1e-4)
    right = [name == model.classes[label] for name, label in zip(model.names(test.images), test.labels, strict=True)]
    assert sum(right) / len(right) == pytest.approx(model.summary.test_accuracy)


@pytest.mark.assets
@pytest.mark.parametrize("images", [torch.zeros(1, 3, 32, 32), torch.zeros(3, 32, 32, dtype=torch.uint8)])
def test_images_that_are_no_images_are_refused(real_sweep, images):
    with pytest.raises(ValueError, match=r"images are uint8 \(N, 3, 32, 32\), RGB from 0 to 255, not torch"):
        load_model(real_sweep).predict(images)


def test_the_class_names_are_in_the_order_of_the_labels():
    seen = [CIFAR10.classes[label] for label in FIRST_LABELS["test"][:5]]  # the images, looked at
    assert seen == ["cat", "ship", "ship", "airplane", "frog"]


def rewritten(sweep, folder, change):
    """A copy of the real sweep, in which the best trial's weights are changed, and that trial's folder."""
    shutil.copytree(sweep, folder)
    trial = best_trial(folder).folder
    weights = {name: change(name, weight) for name, weight in load_file(trial.best_weights).items()}
    save_file(weights, trial.best_weights)
    return trial


OTHER_WEIGHTS = {
    "not finite": (lambda _, weight: weight * float("nan"), "holds values that are not finite"),
    "one infinite": (
        lambda name, weight: torch.full_like(weight, torch.inf) if name == "head.1.bias" else weight,
        r"head\.1\.bias holds values that are not finite",
    ),
    "others": (lambda _, weight: weight + 0.01, "not the weights that were tested: of image"),
    "another shape": (lambda _, weight: weight[:1], r"bias is \(1,\), where the trial has"),
}


@pytest.mark.assets
@pytest.mark.parametrize("what", OTHER_WEIGHTS)
def test_weights_that_were_not_tested_are_neither_loaded_nor_exported(real_sweep, tmp_path, capsys, what):
    change, why = OTHER_WEIGHTS[what]
    trial = rewritten(real_sweep, tmp_path / "sweep", change)
    with pytest.raises(ResultsError, match=rf"best\.safetensors: .*{why}"):
        load_model(trial.path)
    assert analyze.main([str(trial.path), "--export", "--out", str(tmp_path / "out")]) == 2
    assert re.search(why, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.assets
def test_weights_that_cannot_be_compared_are_loaded_with_a_warning_and_not_exported(real_sweep, tmp_path, capsys):
    trial = rewritten(real_sweep, tmp_path / "sweep", lambda _, weight: weight)
    trial.predictions.unlink()
    with pytest.warns(UserWarning, match=r"nothing shows .*predictions\.npz is not there"):
        load_model(trial.path)
    assert analyze.main([str(trial.path), "--export", "--out", str(tmp_path / "out")]) == 2
    assert "predictions.npz is not there: not written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.assets
def test_without_the_images_a_warning_says_that_nothing_was_compared(real_sweep, cache):
    with pytest.warns(UserWarning, match="CIFAR-10 is not in the cache here"):
        load_model(real_sweep)


@pytest.fixture(scope="module")
def fashion_sweep(tmp_path_factory):
    """A finished sweep's folder: VGG11 trained for an epoch on a few images of Fashion-MNIST."""
    data = {"name": "fashion_mnist", "train_images": 40, "holdout_images": 20, "test_images": 40}
    base = {"seed": 1, "epochs": 1, "batch_size": 20, "data": data, "precision": "fp32"}
    model = {"name": "vgg11", "weights": "random", "train": "head"}
    trial = base | {"name": "scratch", "arm": "scratch", "model": model, "augmentation": {"flip": "random"}}
    sweep = raycifar.SweepSpec.model_validate({"name": "fashion", "trials": [trial]})
    return raycifar.run_sweep(sweep, raycifar.Options(local=True, gpus=0), storage=tmp_path_factory.mktemp("f")).path


@pytest.mark.assets
def test_a_network_of_other_images_names_their_classes_and_reports_on_them(fashion_sweep):
    model = load_model(fashion_sweep)
    assert model.classes == FASHION_MNIST.classes
    assert model.facts.digest == SweepFolder(fashion_sweep).record().data
    test = load_splits(fetch_data(model.trial.data), model.trial.data).test
    recorded = np.load(fashion_sweep / "scratch/predictions.npz")
    assert np.allclose(model.predict(test.images), torch.tensor(recorded["logits"]).softmax(1), atol=1e-5)
    report = write_report(read_results(fashion_sweep), fashion_sweep / "analysis")
    assert "VGG11 trained on Fashion-MNIST" in report.answer
    page = (fashion_sweep / "analysis/report.md").read_text()
    assert "ankle boot" in page
    assert "CIFAR" not in page
    assert list((fashion_sweep / "analysis/figures").glob("*confused*")), "the test images are in the cache"


@pytest.mark.assets
def test_a_network_of_other_images_is_exported_with_their_names(fashion_sweep, tmp_path):
    *_, card = export_model(fashion_sweep, tmp_path)
    text = card.read_text()
    assert "# VGG11 on Fashion-MNIST" in text
    assert "ankle boot" in text
    assert "Fashion-MNIST: MIT." in text
    assert "CIFAR" not in text
