"""Unequal classes: weights in the loss, and validation figures in which each class counts alike."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from raycifar.config.settings import BY_CLASS
from raycifar.storage.records import EpochRecord, History
from raycifar.training.evaluation import evaluate, evaluate_by_class
from raycifar.training.loop import TrainState, fit
from raycifar.training.step import class_weights
from tests.support.networks import Small
from tests.support.records import epoch_record


@pytest.fixture
def thinned(train_images):
    """Of class 0 all images, of the others ever fewer."""
    keep = torch.cat([(train_images.labels == c).nonzero().squeeze(1)[: 32 - 3 * c] for c in range(10)])
    return train_images.take(keep.sort().values)


class Known(nn.Module):
    """Gives images the logits that it was made with."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits[: len(images)]


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_scikit_learns(thinned, seed):
    logits = torch.randn(len(thinned), 10, generator=torch.Generator().manual_seed(seed))
    logits[:, 9] -= 100 * (seed == 2)  # a class that is never predicted
    model, predicted = Known(logits), logits.argmax(1)
    loss, accuracy, balanced, f1 = evaluate_by_class(model, thinned, 10)
    assert (loss, accuracy) == evaluate(model, thinned)
    assert balanced == pytest.approx(balanced_accuracy_score(thinned.labels, predicted))
    assert f1 == pytest.approx(f1_score(thinned.labels, predicted, average="macro"))


def test_the_weights_are_scikit_learns_and_one_on_average(thinned):
    weights = class_weights(thinned.labels, 10)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=thinned.labels.numpy())
    assert weights.numpy() == pytest.approx(expected)
    assert weights[thinned.labels].mean().item() == pytest.approx(1)


def test_a_class_without_images_has_no_weight():
    assert class_weights(torch.tensor([0, 0, 2]), 3).tolist() == pytest.approx([0.75, 0, 1.5])


def run(make_trial, train, val, **settings):
    spec = make_trial(epochs=2, batch_size=40, optimizer={"lr": 0.1}, **settings)
    state = TrainState(Small(), spec)
    return state, list(fit(state, train, val, spec))


def test_equal_classes_train_alike_with_weights_and_without(make_trial, train_images, test_images):
    plain, weighted = (
        run(make_trial, train_images, test_images, class_weights=weights)[1] for weights in ("none", "balanced")
    )
    assert [e.val_loss for e in plain] == pytest.approx([e.val_loss for e in weighted], rel=1e-5)


def test_weights_change_what_unequal_classes_teach(make_trial, thinned, test_images):
    plain, weighted = (
        run(make_trial, thinned, test_images, class_weights=weights)[1] for weights in ("none", "balanced")
    )
    assert plain[-1].val_loss != pytest.approx(weighted[-1].val_loss, rel=1e-4)


@pytest.mark.parametrize("monitor", BY_CLASS)
@pytest.mark.parametrize("place", ["monitor", "schedule", "early_stopping"])
def test_what_is_monitored_is_recorded(make_trial, thinned, monitor, place):
    settings = {
        "monitor": {"monitor": monitor},
        "schedule": {"schedule": {"name": "plateau", "monitor": monitor}},
        "early_stopping": {"early_stopping": {"patience": 1, "monitor": monitor}},
    }
    state, records = run(make_trial, thinned, thinned, **settings[place])
    assert all(getattr(record, key) is not None for record in records for key in BY_CLASS)
    if place == "monitor":
        best = max(records, key=lambda record: getattr(record, monitor))
        assert (state.best_epoch, state.best_monitored) == (best.epoch, getattr(best, monitor))


def test_a_resumed_trial_remembers_the_best_epoch_of_its_monitor(make_trial, thinned):
    spec = make_trial(epochs=4, batch_size=40, optimizer={"lr": 2.0}, monitor="val_macro_f1")
    whole = TrainState(Small(), spec)
    saved = []
    for _ in fit(whole, thinned, thinned, spec):
        saved.append(copy.deepcopy(whole.state_dict()))
    assert whole.best_epoch < 4, "or an epoch that is forgotten would not be missed"
    for state in saved[:-1]:
        again = TrainState(Small(), spec)
        again.load_state_dict(state)
        list(fit(again, thinned, thinned, spec))
        assert (again.best_epoch, again.best_monitored) == (whole.best_epoch, whole.best_monitored)


def test_files_of_other_trials_do_not_name_these_figures():
    record = epoch_record(1)
    history = History([record])
    assert not {*BY_CLASS} & record.to_json().keys()
    assert not {*BY_CLASS} & history.to_json()["epochs"][0].keys()
    measured = replace(record, val_macro_f1=0.25)
    assert History.from_json(json.loads(json.dumps(History([measured]).to_json()))).epochs == [measured]
    assert EpochRecord.from_json(measured.to_json()) == measured
