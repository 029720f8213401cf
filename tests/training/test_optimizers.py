import pytest
import torch

from raycifar.config.settings import Averaging, Optimizer, Schedule
from raycifar.training import eager
from raycifar.training.muon import Muon
from raycifar.training.optimizers import (
    Patience,
    Plateau,
    build_average,
    build_optimizer,
    exponential_share,
    learning_rate_factor,
)
from tests.support.records import epoch_record


def test_biases_and_batch_norm_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decaying, others = build_optimizer(model, Optimizer(weight_decay=0.1)).param_groups
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
    schedule = Schedule(name=name, warmup_epochs=2.0)
    assert learning_rate_factor(schedule, progress, 10) == pytest.approx(factor)


def test_the_schedule_ends_at_its_final_ratio():
    schedule = Schedule(name="linear", final_ratio=0.1)
    assert learning_rate_factor(schedule, 10, 10) == pytest.approx(0.1)
    assert learning_rate_factor(schedule, 5, 10) == pytest.approx(0.55)


def test_patience_counts_epochs_that_are_not_better():
    patience = Patience("val_accuracy")
    assert [patience.observe(epoch_record(accuracy=a)) for a in (0.5, 0.4, 0.5, 0.6, 0.6)] == [0, 1, 2, 0, 1]
    assert [Patience("val_loss").observe(epoch_record(loss=loss)) for loss in (2.0, 3.0)] == [0, 0]


def test_a_plateau_multiplies_the_learning_rate_and_counts_anew():
    plateau = Plateau(Schedule(name="plateau", patience=2, factor=0.5), 1.0, Patience("val_loss"))
    factors = []
    for loss in (1.0, 1.1, 1.1, 1.1, 1.1, 0.5):
        plateau.observe(epoch_record(loss=loss))
        factors.append(plateau.factor)
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_plateau_stops_at_the_least_learning_rate():
    schedule = Schedule(name="plateau", patience=1, factor=0.1, min_lr=0.05)
    plateau = Plateau(schedule, 0.1, Patience("val_loss"))
    for _ in range(4):
        plateau.observe(epoch_record())
    assert plateau.factor == pytest.approx(0.5)


def test_the_average_follows_weights_and_batch_norm_statistics():
    model = torch.nn.BatchNorm1d(2)
    average = build_average(model, Averaging(ema_decay=0.9))
    with torch.no_grad():
        model.weight.fill_(11.0)
        model.running_mean.fill_(10.0)
    average.set_share(0.1)
    average.update()
    assert average.module.weight.tolist() == pytest.approx([2.0, 2.0])
    assert average.module.running_mean.tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("updates", "share"), [(0, 0.9), (8, 0.5), (80, 0.1), (890, 0.01), (900, 0.01), (10**6, 0.01)])
def test_an_exponential_average_takes_more_of_the_network_in_while_it_is_young(updates, share):
    assert exponential_share(0.99, updates) == pytest.approx(share)


def test_the_average_counts_batches_as_its_network_does():
    model = torch.nn.BatchNorm1d(2)
    average = build_average(model, Averaging(ema_decay=0.9))
    model(torch.ones(3, 2))
    average.update()
    assert average.module.num_batches_tracked == 1


def test_without_a_decay_there_is_no_average():
    assert build_average(torch.nn.Linear(1, 1), Averaging()) is None


class Network(torch.nn.Module):
    """Two convolutions, the first with batch norm, and a head of two layers."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3)
        )
        self.head = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Linear(6, 7))


def settings_by_name(model, **settings):
    """Each parameter's learning rate over the schedule's, and its weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, Optimizer(**settings)).param_groups
    return {names[id(p)]: (group["lr_ratio"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_layers_learn_more_slowly_the_deeper_they_lie():
    ratios = {name: ratio for name, (ratio, _) in settings_by_name(Network(), layer_decay=0.5).items()}
    deep, last = ("features.0.weight", "features.0.bias", "features.1.weight"), ("features.3.weight", "features.3.bias")
    assert [ratios[name] for name in deep] == [0.5] * 3
    assert [ratios[name] for name in last] == [1.0] * 2
    assert {ratio for name, ratio in ratios.items() if name.startswith("head")} == {1.0}


def test_the_head_learns_faster_by_its_ratio():
    ratios = settings_by_name(Network(), head_lr_ratio=10.0)
    assert {name for name, (ratio, _) in ratios.items() if ratio == 10} == {n for n in ratios if n.startswith("head")}
    assert {ratio for ratio, _ in ratios.values()} == {1.0, 10.0}


def test_weights_biases_and_head_have_their_own_weight_decay():
    decays = settings_by_name(Network(), weight_decay=0.1, bias_decay_ratio=0.5, head_decay_ratio=3.0)
    expected = {"features.0.weight": 0.1, "features.1.weight": 0.05, "features.3.bias": 0.05}
    expected |= {"head.1.weight": 0.3, "head.1.bias": 0.15}
    assert {name: decays[name][1] for name in expected} == pytest.approx(expected)


def test_every_trained_parameter_is_in_one_group_and_no_frozen_one():
    model = Network()
    model.features[0].weight.requires_grad_(False)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(settings_by_name(model, layer_decay=0.5, head_lr_ratio=2.0)) == names
    assert settings_by_name(model, layer_decay=0.5)["features.0.bias"][0] == 0.5


def test_a_plain_mean_is_the_mean_of_what_it_has_seen():
    model = torch.nn.Linear(1, 1, bias=False)
    average = build_average(model, Averaging(swa_epochs=3))
    for averaged, weight in ((0, 9.0), (0, 1.0), (1, 2.0), (2, 6.0)):  # the first is from before the last epochs
        model.weight.data.fill_(weight)
        average.set_share(1 / (averaged + 1))
        average.update()
    assert average.module.weight.item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", eager.SGD), ("muon", Muon), ("adam", eager.Adam), ("adamw", eager.AdamW)],
)
def test_the_optimizer_is_the_one_that_the_spec_names(name, kind):
    assert type(build_optimizer(torch.nn.Linear(1, 1), Optimizer(name=name))) is kind


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_the_momentum_is_the_specs(name, nesterov):
    settings = Optimizer(name=name, momentum=0.8, nesterov=nesterov)
    for group in build_optimizer(torch.nn.Linear(1, 1), settings).param_groups:
        assert (group["momentum"], group["nesterov"]) == (0.8, nesterov)


def test_patience_wants_more_than_its_least_difference():
    patience = Patience("val_accuracy", min_delta=0.1)
    assert [patience.observe(epoch_record(accuracy=a)) for a in (0.5, 0.55, 0.65, 0.7)] == [0, 1, 0, 1]
    patience = Patience("val_loss", min_delta=0.1)
    assert [patience.observe(epoch_record(loss=loss)) for loss in (1.0, 0.95, 0.85, 0.9)] == [0, 1, 0, 1]
