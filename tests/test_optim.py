import pytest
import torch

from raycifar import spec
from raycifar.optim import Patience, Plateau, build_average, build_optimizer, learning_rate_factor
from raycifar.records import EpochRecord


def record(epoch=1, accuracy=0.5, loss=1.0):
    seconds = dict.fromkeys(("train_seconds", "val_seconds", "checkpoint_seconds", "finished_at"), 0.0)
    train = {"lr": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "images_per_second": 1.0}
    return EpochRecord(epoch=epoch, val_loss=loss, val_accuracy=accuracy, **train, **seconds)


def test_biases_and_batch_norm_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decaying, others = build_optimizer(model, spec.Optimizer(weight_decay=0.1)).param_groups
    assert [p.ndim for p in decaying["params"]] == [4]
    assert decaying["weight_decay"] == 0.1
    assert [p.ndim for p in others["params"]] == [1, 1, 1]
    assert others["weight_decay"] == 0


@pytest.mark.parametrize(
    ("name", "progress", "factor"),
    [
        ("constant", 7.0, 1.0),
        ("plateau", 7.0, 1.0),
        ("linear", 1.0, 0.5),  # half-way through two epochs of warm-up
        ("linear", 2.0, 1.0),
        ("linear", 6.0, 0.5),
        ("cosine", 6.0, 0.5),
        ("cosine", 4.0, 0.8535534),
        ("cosine", 10.0, 0.0),
    ],
)
def test_the_schedule_warms_up_and_falls(name, progress, factor):
    schedule = spec.Schedule(name=name, warmup_epochs=2.0)
    assert learning_rate_factor(schedule, progress, 10) == pytest.approx(factor)


def test_the_schedule_ends_at_its_final_ratio():
    schedule = spec.Schedule(name="linear", final_ratio=0.1)
    assert learning_rate_factor(schedule, 10, 10) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, 5, 10) == pytest.approx(0.55)


def test_patience_counts_epochs_that_are_not_better():
    patience = Patience("val_accuracy")
    assert [patience.observe(record(accuracy=a)) for a in (0.5, 0.4, 0.5, 0.6, 0.6)] == [0, 1, 2, 0, 1]
    assert [Patience("val_loss").observe(record(loss=loss)) for loss in (2.0, 3.0)] == [0, 0]


def test_a_plateau_multiplies_the_learning_rate_and_counts_anew():
    plateau = Plateau(spec.Schedule(name="plateau", patience=2, factor=0.5), 1.0, Patience("val_loss"))
    factors = []
    for loss in (1.0, 1.1, 1.1, 1.1, 1.1, 0.5):
        plateau.observe(record(loss=loss))
        factors.append(plateau.factor)
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_plateau_stops_at_the_least_learning_rate():
    schedule = spec.Schedule(name="plateau", patience=1, factor=0.1, min_lr=0.05)
    plateau = Plateau(schedule, 0.1, Patience("val_loss"))
    for _ in range(4):
        plateau.observe(record())
    assert plateau.factor == pytest.approx(0.5)


def test_the_average_follows_weights_and_batch_norm_statistics():
    model = torch.nn.BatchNorm1d(2)
    average = build_average(model, spec.Averaging(ema_decay=0.9))
    average.update_parameters(model)  # the first update copies
    with torch.no_grad():
        model.weight.fill_(11.0)
        model.running_mean.fill_(10.0)
    average.update_parameters(model)
    assert average.module.weight.tolist() == pytest.approx([2.0, 2.0])
    assert average.module.running_mean.tolist() == pytest.approx([1.0, 1.0])


def test_without_a_decay_there_is_no_average():
    assert build_average(torch.nn.Linear(1, 1), spec.Averaging()) is None
