"""The loop with a small network on real images; test_trial.py has the whole VGG16."""

import copy
import io

import pytest
import torch
from torch import nn

from raycifar.data.splits import Split
from raycifar.training.evaluation import evaluate, predict
from raycifar.training.loop import NonFiniteLossError, TrainState, fit
from raycifar.training.optimizers import Average, Patience
from raycifar.training.step import Step
from tests.support.networks import Floats, Small
from tests.support.records import numbers


@pytest.fixture
def splits(train_images):
    return train_images.take(torch.arange(120)), train_images.take(torch.arange(120, 200))


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_state_sets_no_other_attributes_than_its_own(make_trial):
    state = TrainState(Small(), make_trial())
    saved = state.state_dict()
    saved["progress"] |= {"model": "another", "state_dict": None, "epoch": 3}
    saved["best"] |= {"device": "another"}
    state.load_state_dict(saved)
    assert (state.epoch, state.device) == (3, torch.device("cpu"))
    assert state.state_dict().keys() == saved.keys()


SETTINGS = {
    "plain": {},
    "plateau": {"schedule": {"name": "plateau", "patience": 1, "monitor": "val_accuracy"}},
    "cosine": {"schedule": {"name": "cosine", "warmup_epochs": 1.0}},
    "average": {"averaging": {"ema_decay": 0.9}},
    "early stopping": {"early_stopping": {"patience": 2, "monitor": "val_accuracy", "min_delta": 0.02}},
    "augmented": {"augmentation": {"crop": 4, "flip": "alternating", "cutout": 8}},
    "random flip": {"augmentation": {"flip": "random"}},
    "adamw": {"optimizer": {"name": "adamw", "lr": 0.01}},
    "muon": {"optimizer": {"name": "muon", "weight_decay": 0.1}, "model": {"weights": "random", "batch_norm": True}},
    "mixup": {"augmentation": {"mixup": 0.4}},
    "cutmix of a policy": {"augmentation": {"policy": "trivial", "cutmix": 1.0, "mix_probability": 0.5}},
    "rates by layer": {"optimizer": {"layer_decay": 0.7, "head_lr_ratio": 5.0, "clip_norm": 0.5}},
    "decay by group": {"optimizer": {"weight_decay": 0.1, "bias_decay_ratio": 1.0, "head_decay_ratio": 2.0}},
    "plain mean": {"averaging": {"swa_epochs": 3}},
    "recomputed average": {"averaging": {"ema_decay": 0.9, "ema_recompute_batch_norm": True}},
    "smoothed": {"label_smoothing": 0.1, "drop_last": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("epochs_before", [1, 2])
def test_a_resumed_trial_equals_an_uninterrupted_one_to_the_bit(make_trial, splits, settings, epochs_before):
    spec = make_trial(epochs=4, precision="fp32", **settings)
    straight = TrainState(Small(), spec)
    expected = list(fit(straight, *splits, spec))

    before = TrainState(Small(), spec)
    records = []
    for record in fit(before, *splits, spec):
        records.append(record)
        if record.epoch == epochs_before:
            break
    after = TrainState(Small(), spec)
    after.load_state_dict(through_a_file(before.state_dict()))
    torch.rand(7)  # another process has drawn other random numbers
    records += list(fit(after, *splits, spec))

    assert numbers(records) == numbers(expected)
    weights, resumed = straight.model.state_dict(), after.model.state_dict()
    assert all(weights[name].equal(resumed[name]) for name in weights)
    assert all(weight.equal(after.best_weights[name]) for name, weight in straight.best_weights.items())
    evaluated, resumed = straight.evaluated.state_dict(), after.evaluated.state_dict()
    assert all(evaluated[name].equal(resumed[name]) for name in evaluated)


@pytest.mark.parametrize("settings", [{}, {"averaging": {"ema_decay": 0.9}}], ids=["plain", "average"])
def test_the_weights_of_a_best_epoch_are_saved_once_and_loaded_as_others(make_trial, splits, settings):
    spec = make_trial(epochs=2, **settings)
    before, after = TrainState(Small(), spec), TrainState(Small(), spec)
    next(fit(before, *splits, spec))  # the first epoch is the best of those so far
    saved = before.state_dict()
    evaluated = saved["model"] if before.average is None else saved["average"]
    storages = lambda state: [tensor.untyped_storage().data_ptr() for tensor in state.values()]  # noqa: E731
    assert storages(saved["best"]["best_weights"]) == storages(evaluated) == storages(before.evaluated.state_dict())
    after.load_state_dict(saved)
    assert not set(storages(after.best_weights)) & set(storages(evaluated))


def test_a_reduced_learning_rate_stays_reduced_after_a_resume(make_trial, splits):
    spec = make_trial(epochs=3, schedule={"name": "plateau"}, optimizer={"lr": 0.1})
    before, after = TrainState(Small(), spec), TrainState(Small(), spec)
    before.plateau.factor, before.plateau.waiting.waited = 0.25, 1
    after.load_state_dict(through_a_file(before.state_dict()))
    assert after.plateau == before.plateau
    assert next(fit(after, *splits, spec)).lr == pytest.approx(0.025)


def test_every_step_has_the_schedules_learning_rate_and_the_averages_share(make_trial, splits, monkeypatch):
    """Three steps an epoch: warm-up in the first of four, then down to 0; at the middle of each step."""
    steps, shares = [], []
    step, set_share = Step.__call__, Average.set_share

    def call(self, index, epoch, lr):
        steps.append(lr)
        return step(self, index, epoch, lr)

    def share(self, value):
        shares.append(value)
        set_share(self, value)

    monkeypatch.setattr(Step, "__call__", call)
    monkeypatch.setattr(Average, "set_share", share)
    schedule = {"name": "linear", "warmup_epochs": 1.0}
    average = {"ema_decay": 0.5}  # which it has from the ninth step on
    spec = make_trial(epochs=4, batch_size=40, schedule=schedule, optimizer={"lr": 0.9}, averaging=average)
    records = list(fit(TrainState(Small(), spec), *splits, spec))
    expected = [0.15, 0.45, 0.75, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25, 0.15, 0.05]
    assert steps == pytest.approx(expected)
    assert [record.lr for record in records] == pytest.approx(expected[2::3])
    assert shares == pytest.approx(
        [9 / 10, 9 / 11, 9 / 12, 9 / 13, 9 / 14, 9 / 15, 9 / 16, 9 / 17, 1 / 2] + 3 * [1 / 2]
    )


def test_signs_of_life_come_from_every_step_and_every_part_also_where_steps_are_replayed(
    make_trial, splits, monkeypatch
):
    """A replayed step runs no Python and no optimizer: here one that does nothing."""
    spec = make_trial(epochs=2, batch_size=40, averaging={"ema_decay": 0.9, "ema_recompute_batch_norm": True})
    signs, model = [], Small()
    model.images_at_once = 20
    state = TrainState(model, spec)
    monkeypatch.setattr(Step, "__call__", lambda self, index, epoch, lr: torch.zeros(2, dtype=torch.float64))
    state.average.module.images_at_once = 20
    for _ in fit(state, *splits, spec, lambda: signs.append(1)):
        pass
    assert len(signs) == 2 * (120 // 40 + 120 // 20 + 80 // 20)  # steps, batch norm's pass, validation
    predict(model, splits[1], alive=lambda: signs.append(1))
    assert len(signs) == 26 + 4


def test_adams_state_from_a_gpu_is_of_this_device_afterwards(make_trial, splits):
    spec = make_trial(optimizer={"name": "adamw"})
    state = TrainState(Small(), spec)
    saved = state.state_dict()
    for group in saved["optimizer"]["param_groups"]:
        group["capturable"] = True
    state.load_state_dict(saved)
    assert not any(group["capturable"] for group in state.optimizer.param_groups)
    next(fit(state, *splits, spec))


def test_training_learns(make_trial, splits):
    spec = make_trial(epochs=25, optimizer={"lr": 0.1}, precision="fp32")
    records = list(fit(TrainState(Small(), spec), *splits, spec))
    assert records[-1].train_loss < records[0].train_loss - 0.15


def test_the_best_weights_are_those_of_the_best_validation_accuracy(make_trial, splits):
    spec = make_trial(epochs=8, optimizer={"lr": 0.3}, precision="fp32")
    state = TrainState(Small(), spec)
    records = list(fit(state, *splits, spec))
    best = max(records, key=lambda record: (record.val_accuracy, -record.epoch))
    assert state.best_epoch == best.epoch
    assert state.best_epoch < len(records), "the last epoch is the best one: nothing is tested here"
    state.model.load_state_dict(state.best_weights)
    assert evaluate(state.model, splits[1]) == (best.val_loss, best.val_accuracy)


def test_ties_keep_the_earlier_epoch(make_trial, splits):
    spec = make_trial(epochs=3, optimizer={"lr": 1e-9, "nesterov": False, "momentum": 0.0}, precision="fp32")
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    state = TrainState(Floats(model), spec)
    assert len({record.val_accuracy for record in fit(state, *splits, spec)}) == 1
    assert state.best_epoch == 1


def test_early_stopping_ends_the_trial(make_trial, splits):
    spec = make_trial(epochs=30, optimizer={"lr": 1e-9}, early_stopping={"patience": 3, "monitor": "val_accuracy"})
    state = TrainState(Floats(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))), spec)
    assert len(list(fit(state, *splits, spec))) == 4
    assert state.stopped_early


def test_the_averaged_network_is_what_gets_validated(make_trial, splits):
    spec = make_trial(epochs=2, averaging={"ema_decay": 0.99}, optimizer={"lr": 0.3}, precision="fp32")
    state = TrainState(Small(), spec)
    *_, last = fit(state, *splits, spec)
    assert evaluate(state.average.module, splits[1]) == (last.val_loss, last.val_accuracy)
    assert evaluate(state.model, splits[1]) != (last.val_loss, last.val_accuracy)


def test_a_young_moving_average_has_forgotten_the_network_before_its_first_step(make_trial, splits):
    spec = make_trial(epochs=2, averaging={"ema_decay": 0.9999}, optimizer={"lr": 0.3}, precision="fp32")
    state = TrainState(Small(), spec)
    weights = [weight_of(state.model)]
    for _ in fit(state, *splits, spec):
        weights.append(weight_of(state.model))
    assert (weights[2] - weight_of(state.evaluated)).norm() < 0.3 * (weights[2] - weights[0]).norm()


def test_a_network_takes_as_many_images_at_once_as_it_says(make_trial, splits):
    class Counting(Small):
        images_at_once = 7
        sizes = ()

        def forward(self, images):
            self.sizes += (len(images),)
            return super().forward(images)

    model, small = Counting(), Small()
    small.load_state_dict(model.state_dict())
    assert torch.allclose(predict(model, splits[1]), predict(small, splits[1]), atol=1e-6)
    assert model.sizes == (7,) * 11 + (3,)


def weight_of(model):
    return model.convolution.weight.detach().clone()


def statistics(model, images):
    """Batch norm's mean and variance over all images at once, in a network otherwise as it is."""
    model = copy.deepcopy(model).train()
    model.norm.momentum = 1.0
    model(images)
    return model.norm.running_mean, model.norm.running_var


def test_the_plain_mean_begins_with_its_epochs_and_has_its_own_batch_norm_statistics(make_trial, splits):
    spec = make_trial(epochs=4, averaging={"swa_epochs": 2}, optimizer={"lr": 0.3}, precision="fp32")
    state, seen = TrainState(Small(), spec), []
    for record in fit(state, *splits, spec):
        seen.append(weight_of(state.model))
        if record.epoch < 4:  # one network is no mean yet
            assert state.evaluated.convolution.weight.equal(seen[-1])
            assert state.evaluated.norm.running_mean.equal(state.model.norm.running_mean)
    assert torch.allclose(state.evaluated.convolution.weight, (seen[2] + seen[3]) / 2)
    mean, variance = statistics(state.evaluated, splits[0].images)
    assert torch.allclose(state.evaluated.norm.running_mean, mean, atol=1e-5)
    assert torch.allclose(state.evaluated.norm.running_var, variance, atol=1e-5)
    assert not torch.allclose(state.model.norm.running_mean, mean, atol=1e-3)


def test_the_moving_averages_statistics_are_recomputed_where_the_spec_says_so(make_trial, splits):
    averaging = {"ema_decay": 0.9, "ema_recompute_batch_norm": True}
    spec = make_trial(epochs=1, averaging=averaging, optimizer={"lr": 0.3}, precision="fp32")
    state = TrainState(Small(), spec)
    next(fit(state, *splits, spec))
    assert torch.allclose(
        state.evaluated.norm.running_mean, statistics(state.evaluated, splits[0].images)[0], atol=1e-5
    )


def test_a_loss_that_is_not_finite_names_epoch_and_step(make_trial, splits):
    spec = make_trial(epochs=3, optimizer={"lr": 1e6}, precision="fp32")
    model = Floats(nn.Sequential(nn.Flatten(), nn.Linear(3072, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10)))
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step \d of 8: lower optimizer.lr"):
        list(fit(TrainState(model, spec), *splits, spec))


def test_a_validation_loss_that_is_not_finite_ends_the_trial_too(make_trial, splits, monkeypatch):
    monkeypatch.setattr("raycifar.training.loop.evaluate", lambda *_: (float("nan"), 0.1))
    spec = make_trial(epochs=1)
    with pytest.raises(NonFiniteLossError, match="validation loss is nan after epoch 1"):
        list(fit(TrainState(Small(), spec), *splits, spec))


def test_the_training_loss_leaves_label_smoothing_out(make_trial, splits):
    plain, smoothed = (
        make_trial(epochs=1, optimizer={"lr": 1e-9}, label_smoothing=smoothing, precision="fp32")
        for smoothing in (0.0, 0.5)
    )
    first, second = (next(fit(TrainState(Small(), spec), *splits, spec)) for spec in (plain, smoothed))
    assert first.train_loss == pytest.approx(second.train_loss, rel=1e-5)


def test_evaluation_is_the_mean_over_all_images(splits):
    model, val = Small().eval(), splits[1]
    one_by_one = [nn.functional.cross_entropy(model(image[None]), label[None]) for image, label in _pairs(val)]
    right = [model(image[None]).argmax() == label for image, label in _pairs(val)]
    loss, accuracy = evaluate(model, val)
    assert loss == pytest.approx(torch.stack(one_by_one).mean().item(), rel=1e-5)
    assert accuracy == sum(right) / len(val)


def _pairs(split: Split):
    return zip(split.images, split.labels, strict=True)


def test_prediction_leaves_the_network_in_the_mode_it_had(splits):
    model = Small().train()
    predict(model, splits[1])
    assert model.training


def test_mirrored_predictions_are_those_of_the_mirror_images(splits):
    model = Small()
    mirror = Split(splits[1].images.flip(-1), splits[1].labels)
    assert predict(model, splits[1], mirrored=True).equal(predict(model, mirror))


def test_the_callers_time_is_the_next_records_checkpoint_seconds(make_trial, splits, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("raycifar.training.loop.time.perf_counter", lambda: float(next(clock)))
    spec = make_trial(epochs=2)
    training = fit(TrainState(Small(), spec), *splits, spec)
    first = next(training)
    for _ in range(10):  # the caller takes its time
        next(clock)
    assert (first.checkpoint_seconds, next(training).checkpoint_seconds) == (0.0, 11.0)
    assert (first.train_seconds, first.val_seconds, first.images_per_second) == (1.0, 1.0, 120.0)


def test_a_states_copy_does_not_change_with_it(make_trial, splits):
    spec = make_trial(epochs=2, precision="fp32")
    state = TrainState(Small(), spec)
    training = fit(state, *splits, spec)
    next(training)
    best = copy.deepcopy(state.best_weights)
    state.best_val_accuracy = 2.0  # no epoch can be better
    next(training)
    assert all(best[name].equal(state.best_weights[name]) for name in best)
    learnt = {name: weight for name, weight in state.model.named_parameters() if name != "convolution.bias"}
    assert not any(best[name].equal(weight) for name, weight in learnt.items())  # batch norm takes that bias out


def test_another_seed_and_another_epoch_take_other_batches(make_trial, splits):
    losses = []
    for seed in (1, 1, 2):
        spec = make_trial(seed=seed, optimizer={"lr": 1e-9}, precision="fp32")
        state = TrainState(Small(), spec)  # of the same weights, which stay
        state.model.dropout.p = 0.0
        losses.append([record.train_loss for record in fit(state, *splits, spec)])
    assert losses[0] == losses[1]
    assert len({round(loss, 5) for loss in losses[0] + losses[2]}) == 4


def test_another_seed_and_another_epoch_drop_others_out(make_trial, splits):
    same = splits[0].take(torch.zeros(120, dtype=torch.int64))  # in whichever order
    losses = []
    for seed in (1, 2):
        spec = make_trial(seed=seed, optimizer={"lr": 1e-9}, precision="fp32")
        losses += [record.train_loss for record in fit(TrainState(Small(), spec), same, splits[1], spec)]
    assert len({round(loss, 5) for loss in losses}) == 4


def test_plateau_and_early_stopping_watch_what_their_own_tables_say(make_trial):
    schedule = {"name": "plateau", "monitor": "val_accuracy"}
    stopping = {"patience": 2, "monitor": "val_loss", "min_delta": 0.5}
    state = TrainState(Small(), make_trial(schedule=schedule, early_stopping=stopping))
    assert state.plateau.waiting == Patience("val_accuracy")
    assert state.stopping == Patience("val_loss", 0.5)


def test_a_trial_whose_patience_ends_with_its_last_epoch_has_not_stopped_early(make_trial, splits):
    settings = {"optimizer": {"lr": 1e-9}, "early_stopping": {"patience": 3, "min_delta": 9.0}}
    state = TrainState(Small(), spec := make_trial(epochs=4, **settings))
    assert len(list(fit(state, *splits, spec))) == 4
    assert state.stopping.waited == 3
    assert not state.stopped_early


def test_images_that_are_left_out_count_in_no_mean(make_trial, splits):
    losses = []
    for drop_last in (False, True):  # of batches of 50, 50 and 20
        data = {"train_images": 120, "holdout_images": 20}
        settings = {"batch_size": 50, "drop_last": drop_last, "data": data, "optimizer": {"lr": 1e-9}}
        spec = make_trial(epochs=1, precision="fp32", **settings)
        losses.append(next(fit(TrainState(Small(), spec), *splits, spec)).train_loss)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
