import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scaling import planner_table
from raycifar.config.sweep_file import load_sweep
from raycifar.devices import trials_that_fit
from raycifar.execution.placement import (
    DRIVER_CPUS,
    UNLIMITED,
    WORKER_BYTES,
    Machine,
    PlacementError,
    finish_times,
    idle_share,
    image_room,
    least_makespan,
    make_plan,
    makespan,
    most_to_share,
)
from raycifar.networks.cost import flops_an_image, largest_step, work
from raycifar.training.optimizers import build_optimizer
from tests.support.networks import build_vgg16
from tests.support.paths import SWEEPS


@pytest.fixture(scope="module")
def vgg():
    return load_sweep(SWEEPS / "vgg.toml").trials


@pytest.fixture(scope="module")
def quick():
    return load_sweep(SWEEPS / "quick.toml").trials


def machine(gpus, cpus, memory=1e15):
    """One node; memory in bytes."""
    return Machine(gpus=gpus, cpus=cpus, node_cpus=cpus, memory=memory)


def counted(spec):
    """PyTorch's own count for one image through the real network: forward, and forward with backward."""
    with torch.device("meta"):  # shapes without values
        network, image = build_vgg16(spec, seed=0), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(image)
        with FlopCounterMode(display=False) as step:
            network(image).sum().backward()
    return forward.get_total_flops(), step.get_total_flops()


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("hidden", [(), (4096, 4096)])
@pytest.mark.parametrize("train", ["all", "block2", "block3", "block4", "block5", "head"])
def test_operations_are_those_that_torch_counts(make_trial, train, hidden, batch_norm):
    model = {"weights": "random", "train": train, "hidden": hidden, "batch_norm": batch_norm}
    trial = make_trial(model=model)
    assert flops_an_image(trial) == counted(trial.model)


@pytest.mark.parametrize("train", ["all", "block4", "head"])
def test_muons_operations_are_those_that_torch_counts(make_trial, train):
    muon = {"batch_size": 10, "optimizer": {"name": "muon"}}
    trial = make_trial(model={"weights": "random", "batch_norm": True, "train": train}, **muon)
    network = build_vgg16(trial.model, seed=0)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    with FlopCounterMode(display=False) as counter:
        build_optimizer(network, trial.optimizer).step()
    muons = flops_an_image(trial)[1] - counted(trial.model)[1]
    assert muons == pytest.approx(counter.get_total_flops() / 10, rel=1e-9)


@pytest.mark.parametrize("side", [2, 7])
def test_upsampling_costs_its_square(make_trial, side):
    trial = make_trial(model={"weights": "random", "upsample": side})
    assert flops_an_image(trial) == counted(trial.model)


def test_recomputing_batch_norm_is_work_where_there_is_any(make_trial):
    def more(averaging, batch_norm=True):
        model = {"weights": "random", "batch_norm": batch_norm}
        plain, other = make_trial(model=model, epochs=5), make_trial(model=model, epochs=5, averaging=averaging)
        return (work(other) - work(plain)) / (40 * flops_an_image(plain)[0])

    assert more({"swa_epochs": 3}) == pytest.approx(2)  # the mean of one epoch needs none
    assert more({"swa_epochs": 3}, batch_norm=False) == 0
    assert more({"ema_decay": 0.9, "ema_recompute_batch_norm": True}) == pytest.approx(5)


def test_work_is_training_and_validation_every_epoch_and_a_test_with_mirror_images(make_trial):
    data = {"train_images": 40, "holdout_images": 20, "test_images": 10, "measure_training": False}
    trial = make_trial(epochs=3, data=data)
    forward, step = flops_an_image(trial)
    assert work(trial) == 3 * (40 * step + 20 * forward) + 2 * 10 * forward
    measures = make_trial(epochs=3, data=data | {"measure_training": True})
    assert work(measures) == work(trial) + 40 * forward


def test_validation_on_the_training_images_costs_as_many_as_they_are(make_trial):
    trial = make_trial(epochs=1, data={"train_images": 40, "validation": "train", "test_images": 10})
    forward, step = flops_an_image(trial)
    assert work(trial) == 40 * (step + forward) + (2 * 10 + 40) * forward


def test_the_longest_trial_starts_first_and_equals_keep_their_order(vgg):
    names = ["scratch", "transfer-1", "transfer-2", "transfer-3"]
    assert [t.name for t in make_plan(vgg, machine(4, 16)).order] == names
    assert [t.name for t in make_plan(vgg[::-1], machine(4, 16)).order] == [names[0], *names[:0:-1]]


@pytest.mark.parametrize(("gpus", "at_once"), [(1, 1), (2, 2), (4, 4), (8, 4)])
def test_four_trials_run_one_on_each_gpu_at_once(vgg, gpus, at_once):
    plan = make_plan(vgg, machine(gpus, 32))
    assert (plan.at_once, plan.workers, plan.gpus_per_worker, plan.uses_gpu) == (at_once, 1, 1.0, True)


@pytest.mark.parametrize(("gpus", "sharing", "at_once"), [(1, 2, 2), (1, 4, 4), (2, 2, 4), (1, 3, 3)])
def test_trials_that_share_a_gpu_each_take_their_part_of_it(vgg, gpus, sharing, at_once):
    plan = make_plan(vgg, machine(gpus, 32), trials_per_gpu=sharing)
    assert (plan.at_once, plan.gpus_per_worker) == (at_once, pytest.approx(1 / sharing, abs=1e-4))


@pytest.mark.parametrize(("gpus", "sharing", "share"), [(4, 2, 1.0), (4, 8, 1.0), (2, 8, 0.5), (1, 8, 0.25)])
def test_no_gpu_is_idle_because_trials_could_share_another(vgg, gpus, sharing, share):
    """Ray fills one GPU before it takes the next."""
    plan = make_plan(vgg, machine(gpus, 32), trials_per_gpu=sharing)
    assert (plan.at_once, plan.gpus_per_worker) == (4, share)


def test_only_cores_beside_gpus_are_divided_among_workers_on_gpus(vgg):
    """A head of 64 cores without a GPU, and a node of 8 with 8: here 4 are used."""
    there = Machine(gpus=4, cpus=72, node_cpus=8, memory=1e15, gpu_cpus=8)
    plan = make_plan(vgg, there)
    assert plan.at_once * plan.cpus_per_worker <= 8
    assert most_to_share(vgg * 4, there) == 2


@pytest.mark.parametrize(("gpus", "workers", "at_once"), [(4, 4, 1), (4, 2, 2), (4, 3, 1), (8, 2, 4)])
def test_each_worker_takes_a_gpu_of_its_own(vgg, gpus, workers, at_once):
    plan = make_plan(vgg, machine(gpus, 32), workers=workers)
    assert (plan.at_once, plan.workers, plan.gpus_per_worker) == (at_once, workers, 1.0)


@pytest.mark.parametrize(("cpus", "gpus", "threads"), [(2, 4, 1), (4, 1, 4), (8, 4, 2), (64, 4, 4)])
def test_workers_on_gpus_divide_the_cores_but_take_no_more_than_four(vgg, cpus, gpus, threads):
    assert make_plan(vgg, machine(gpus, cpus)).threads == threads


def test_on_two_cores_the_short_trials_of_quick_run_side_by_side(quick):
    plan = make_plan(quick, machine(0, 2))
    assert (plan.at_once, plan.threads, plan.gpus_per_worker) == (2, 1, 0.0)


def test_on_two_cores_the_trials_of_vgg_take_turns_for_one_is_much_the_longest(vgg):
    plan = make_plan(vgg, machine(0, 2))
    assert (plan.at_once, plan.threads) == (1, 2)


@settings(deadline=None)
@given(cpus=st.integers(1, 64), trials=st.integers(1, 4), workers=st.integers(1, 8))
def test_a_plan_on_the_cpu_never_takes_more_cores_than_there_are(quick, cpus, trials, workers):
    if workers > cpus:
        with pytest.raises(PlacementError):
            make_plan(quick[:trials], machine(0, cpus), workers=workers)
    else:
        plan = make_plan(quick[:trials], machine(0, cpus), workers=workers)
        assert 1 <= plan.at_once <= trials
        assert plan.at_once * workers * plan.threads <= cpus
        assert cores_taken(plan) <= cpus


def test_the_choice_on_cpus_counts_the_threads_of_all_a_trials_workers(vgg):
    plan = make_plan(vgg[:2], machine(0, 5), workers=2)
    assert (plan.at_once, plan.threads) == (2, 1)  # alone, two workers would leave a core of five unused


def test_on_the_cpu_no_more_trials_run_at_once_than_memory_holds(quick):
    assert make_plan(quick, machine(0, 8, memory=2.5 * WORKER_BYTES)).at_once <= 2
    assert make_plan(quick, machine(0, 8, memory=1)).at_once == 1  # one is always tried


def test_a_worker_takes_no_more_threads_than_a_node_has(vgg):
    two_nodes = Machine(gpus=0, cpus=8, node_cpus=4, memory=1e15)
    assert make_plan(vgg[:1], two_nodes).threads == 4
    assert make_plan(vgg[:1], Machine(gpus=2, cpus=4, node_cpus=2, memory=1e15)).threads == 2


@settings(deadline=None)
@given(
    trials=st.integers(1, 4),
    gpus=st.integers(1, 9),
    cpus=st.integers(1, 16),
    split=st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]),
)
def test_a_plan_never_takes_more_gpus_than_there_are_and_leaves_none_idle_that_a_trial_waits_for(
    quick, trials, gpus, cpus, split
):
    _, workers = split
    assume(workers <= gpus)
    plan = make_plan(quick[:trials], machine(gpus, cpus), *split)
    one = workers * plan.gpus_per_worker
    assert plan.at_once * one <= gpus + 1e-9
    assert plan.at_once == trials or (plan.at_once + 1) * one > gpus
    assert cores_taken(plan) <= cpus


def cores_taken(plan):
    """Of Ray's count, by the trials at once and their drivers: more than there are, and Ray would wait for ever."""
    assert plan.cpus_per_worker > 0
    return plan.at_once * (DRIVER_CPUS + plan.workers * plan.cpus_per_worker)


REFUSED = {
    "more workers than GPUs": (2, {"workers": 4}, "raise --gpus"),
    "several workers on shared GPUs": (4, {"workers": 2, "trials_per_gpu": 2}, "or use several a trial"),
    "shared GPUs where there are none": (0, {"trials_per_gpu": 2}, "leave it out"),
    "more workers than cores": (0, {"workers": 3}, "lower it"),
}


@pytest.mark.parametrize(("gpus", "asked", "remedy"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_placed_is_refused_with_a_remedy(vgg, gpus, asked, remedy):
    with pytest.raises(PlacementError, match=remedy):
        make_plan(vgg, machine(gpus, 2), **asked)


@pytest.mark.parametrize(
    ("images", "workers", "drop_last", "fits"),
    [
        (40, 8, False, True),  # batches of 16, 16 and 8
        (40, 9, False, False),
        (40, 16, True, True),
        (40, 17, True, False),
        (160, 16, False, True),  # no smaller last batch
        (20, 4, False, True),  # batches of 16 and 4
        (20, 5, False, False),
    ],
)
def test_every_worker_needs_an_image_of_the_smallest_batch(make_trial, images, workers, drop_last, fits):
    trial = make_trial(data={"train_images": images}, drop_last=drop_last)
    if fits:
        assert make_plan([trial], machine(32, 32), workers=workers).workers == workers
    else:
        with pytest.raises(PlacementError, match=r"'tiny'.*--workers-per-trial, or set drop_last = true"):
            make_plan([trial], machine(32, 32), workers=workers)


def test_a_trial_starts_on_the_first_slot_that_is_free():
    assert makespan([5, 3, 2, 4], slots=2) == 9  # 5 and then 4 beside 3 and 2
    assert makespan([5, 3, 2, 4], slots=1) == 14
    assert makespan([5, 3, 2, 4], slots=9) == 5


def test_every_trial_has_a_predicted_end_and_the_slots_an_idle_share():
    assert finish_times([5, 3, 2, 4], slots=2) == [5, 3, 5, 9]
    assert idle_share([5, 3, 2, 4], slots=2) == pytest.approx(4 / 18)
    assert idle_share([5], slots=4) == 0.75


@pytest.mark.parametrize(
    ("durations", "slots", "least"),
    [([9, 1, 1], 2, 9), ([3, 3, 3, 3], 3, 6), ([2, 2, 2, 1, 1, 1, 1], 3, 10 / 3)],
    ids=["the longest", "two that share a slot", "the mean load"],
)
def test_no_placement_ends_before_the_longest_the_mean_load_or_two_that_must_share(durations, slots, least):
    assert least_makespan(durations, slots) == pytest.approx(least)
    assert best_makespan(durations, slots) >= least - 1e-9


def test_ten_thousand_trials_on_a_thousand_gpus_end_within_five_percent_of_the_bound(vgg):
    table = planner_table(vgg, rounds=1)
    (((_, seconds, gap),), note) = table.rows, table.note
    assert (seconds.median < 5, 0 <= gap < 5) == (True, True), note  # a second on a quiet machine


def best_makespan(durations, slots):
    """Of every way to give each trial a slot."""
    ways = itertools.product(range(slots), repeat=len(durations))
    return min(max(sum(d for d, s in zip(durations, way, strict=True) if s == n) for n in range(slots)) for way in ways)


@settings(deadline=None)
@given(durations=st.lists(st.integers(1, 50), min_size=1, max_size=6), slots=st.integers(1, 3))
def test_longest_first_is_as_near_the_best_of_all_ways_as_graham_proved(durations, slots):
    found, best = makespan(sorted(durations, reverse=True), slots), best_makespan(durations, slots)
    assert least_makespan(durations, slots) <= best + 1e-9
    assert best <= found <= (4 / 3 - 1 / (3 * slots)) * best + 1e-9  # R. L. Graham 1969, theorem 2


@pytest.mark.parametrize(("workers", "at_once"), [(1, 4), (2, 2)])
def test_every_worker_of_a_trial_takes_its_memory(make_trial, workers, at_once):
    trials = [make_trial(name=name) for name in "abcdefgh"]
    assert make_plan(trials, machine(0, 16, memory=4.5 * WORKER_BYTES), workers=workers).at_once == at_once


def test_the_largest_step_is_that_of_the_most_images_and_operations(make_trial):
    head = {"weights": "random", "train": "head"}
    few, many, small = make_trial(batch_size=4), make_trial(batch_size=8), make_trial(batch_size=10, model=head)
    assert largest_step([few, many, small]) == many


def test_a_tenth_of_a_gpus_memory_is_not_counted_on():
    assert [trials_that_fit(80, each) for each in (0, 1, 26, 36.5, 100)] == [8, 8, 2, 1, 1]


@pytest.mark.parametrize(
    ("memory", "processes", "room"),
    [
        (24e9, 1, 24e9 - WORKER_BYTES),
        (24e9, 2, 12e9 - WORKER_BYTES),
        (1e9, 1, 0.0),
        (math.inf, 4, UNLIMITED),
    ],
)
def test_images_may_take_what_the_workers_leave_of_the_memory(quick, memory, processes, room):
    assert image_room(machine(0, 8, memory), processes) == room
    plan = make_plan(quick, machine(0, 8, memory))
    assert plan.image_bytes == image_room(machine(0, 8, memory), plan.at_once)


def test_on_gpus_each_worker_asks_its_own(quick):
    assert make_plan(quick, machine(2, 8, 1e9)).image_bytes == UNLIMITED
