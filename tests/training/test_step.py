"""The step: on the CPU as it runs every time; recorded as a CUDA graph where there is a GPU."""

import copy
import logging
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from raycifar.data.splits import Split
from raycifar.training import loop, muon, step
from raycifar.training.loop import TrainState, fit
from tests.support.errors import FULL_MEMORY
from tests.support.networks import Floats, Small
from tests.support.records import numbers

HARD = {  # all that draws random numbers or keeps state, and a last batch of another size
    "batch_size": 16,
    "averaging": {"ema_decay": 0.9},
    "augmentation": {"crop": 4, "flip": "alternating", "cutout": 8},
    "schedule": {"name": "cosine", "warmup_epochs": 1.0},
}
INGREDIENTS = {  # all the others that a step can hold at once
    "batch_size": 16,
    "augmentation": {"policy": "trivial", "cutmix": 1.0, "mix_probability": 0.5},
    "optimizer": {"layer_decay": 0.7, "head_lr_ratio": 5.0, "clip_norm": 0.5, "weight_decay": 1e-3},
    "label_smoothing": 0.1,
}
MUON = {"optimizer": {"name": "muon"}, "model": {"weights": "random", "batch_norm": True}, "batch_size": 16}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def splits(train_images):
    return train_images.take(torch.arange(120)), train_images.take(torch.arange(120, 200))


def step_of(spec, train):
    state = TrainState(Small(), spec, train.labels.device)
    return loop.step_of(state, train, spec), state


def weights(model):
    return torch.cat([tensor.detach().double().flatten().cpu() for tensor in model.state_dict().values()])


def test_each_call_reads_its_own_indices(make_trial, splits):
    one, _ = step_of(make_trial(batch_size=4, optimizer={"lr": 1e-9}), splits[0])
    losses = [one(torch.arange(start, start + 4), 1, 0.0)[0].item() for start in (0, 4, 0)]
    assert losses[0] != losses[1]


def test_each_call_reads_its_own_learning_rate(make_trial, splits):
    one, state = step_of(make_trial(batch_size=4, optimizer={"momentum": 0.0, "nesterov": False}), splits[0])
    before = weights(state.model.head)
    one(torch.arange(4), 1, 0.0)
    unmoved = weights(state.model.head)
    one(torch.arange(4), 1, 0.1)
    assert unmoved.equal(before)
    assert not weights(state.model.head).equal(before)


def test_a_batch_of_another_size_is_trained_on_as_it_is(make_trial, splits):
    one, state = step_of(make_trial(batch_size=4, precision="fp32"), splits[0])
    before = copy.deepcopy(state.model).train()
    torch.manual_seed(1)  # dropout's
    told = one(torch.arange(3), 1, 0.1)
    torch.manual_seed(1)
    three = splits[0].take(torch.arange(3))
    assert torch.allclose(told, step.loss_and_correct(before(three.images), three.labels))


def moved(make_trial, train, **optimizer):
    """How far one step without momentum moves the convolution and the head."""
    plain = {"momentum": 0.0, "nesterov": False}
    one, state = step_of(make_trial(batch_size=8, precision="fp32", optimizer=plain | optimizer), train)
    before = [weights(part) for part in (state.model.convolution, state.model.head)]
    torch.manual_seed(1)
    one(torch.arange(8), 1, 1.0)
    return [weights(part) - b for part, b in zip((state.model.convolution, state.model.head), before, strict=True)]


def test_each_group_learns_at_its_own_rate(make_trial, splits):
    trunk, head = moved(make_trial, splits[0])
    same, faster = moved(make_trial, splits[0], head_lr_ratio=10.0)
    assert same.equal(trunk)
    assert torch.allclose(faster, 10 * head, rtol=1e-4, atol=1e-6)


def test_an_optimizer_from_before_there_were_ratios_learns_at_the_schedules_rate(make_trial, splits):
    spec = make_trial(batch_size=8)
    state = TrainState(Small(), spec)
    for group in state.optimizer.param_groups:
        del group["lr_ratio"]
    one = loop.step_of(state, splits[0], spec)
    one(torch.arange(8), 1, 0.25)
    assert [group["lr"].item() for group in state.optimizer.param_groups] == [0.25, 0.25]


def test_a_long_gradient_is_shortened_and_a_short_one_left(make_trial, splits):
    free, clipped, loose = (
        torch.cat(moved(make_trial, splits[0], **clip)) for clip in ({}, {"clip_norm": 0.05}, {"clip_norm": 1e6})
    )
    assert loose.equal(free)
    assert torch.nn.functional.cosine_similarity(free, clipped, 0) > 0.9999
    assert clipped.norm() < 0.05 < free.norm()  # batch norm's share of the gradient is not counted here


def test_the_weights_learn_smoothed_labels(make_trial, splits):
    settings = {"label_smoothing": 0.2, "optimizer": {"momentum": 0.0, "nesterov": False}, "precision": "fp32"}
    one, state = step_of(make_trial(batch_size=8, **settings), splits[0])
    state.model.dropout.p = 0.0
    before, bias = copy.deepcopy(state.model), state.model.head.bias
    one(torch.arange(8), 1, 1.0)
    shares = 0.8 * torch.nn.functional.one_hot(splits[0].labels[:8], 10) + 0.02
    gradient = (before(splits[0].images[:8]).softmax(1) - shares).mean(0)
    assert torch.allclose(bias, before.head.bias - gradient, atol=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_muons_products_are_in_the_trials_precision(make_trial, splits, monkeypatch, precision, dtype):
    seen, orthogonal = [], muon.orthogonal

    def watched(*arguments):
        turned = orthogonal(*arguments)
        seen.extend(matrix.dtype for matrix in turned)
        return turned

    monkeypatch.setattr(muon, "orthogonal", watched)
    one, _ = step_of(make_trial(**MUON, precision=precision), splits[0])
    one(torch.arange(16), 1, 0.1)
    assert seen == [dtype]


def test_a_mixed_images_right_answer_is_the_label_of_the_larger_share():
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.4, 0.0, 0.6]])
    logits = torch.tensor([[2.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    loss, correct = step.loss_and_correct(logits, shares)
    assert correct == 1
    assert loss.item() == pytest.approx(-(shares * logits.log_softmax(1)).sum().item(), rel=1e-6)


class Waits(TorchDispatchMode):
    """Collects operations for which a GPU would have to wait, or whose result's size depends on values."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        name = operation.overloadpacket.__name__
        masked = name.startswith("index") and any(i is not None and i.dtype == torch.bool for i in arguments[1])
        if masked or name in {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal"}:
            self.found.append(name)
        return operation(*arguments, **(named or {}))


@pytest.mark.parametrize("settings", [HARD, INGREDIENTS, MUON, {"augmentation": {"mixup": 1.0}}])
def test_no_step_waits_for_a_value(make_trial, splits, settings):
    one, _ = step_of(make_trial(**settings), splits[0])
    with Waits() as waits:
        one(torch.arange(16), 1, 0.1)
    assert waits.found == []


def test_waiting_would_be_found():
    with Waits() as waits:
        values = torch.arange(4)
        values[values > 2], values[0].item(), bool(values[1] == 1)
    assert waits.found == ["index", "_local_scalar_dense", "_local_scalar_dense"]


class FakeGraph:
    """Stands for torch.cuda.CUDAGraph on a machine without a GPU."""

    def register_generator_state(self, generator):
        pass


def refusing_to_record(error):
    @contextmanager
    def graph(graph, capture_error_mode):
        raise error
        yield

    return graph


def record_at_once(monkeypatch, error):
    """Steps record before the first one, and cannot."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", refusing_to_record(error))
    monkeypatch.setattr(step, "steps_before_recording", lambda device: 0)


def test_where_no_graph_can_be_recorded_the_steps_run_as_they_are_and_the_log_says_why(
    make_trial, splits, monkeypatch, caplog
):
    spec = make_trial(**HARD)
    expected = numbers(fit(TrainState(Small(), spec), *splits, spec))
    record_at_once(monkeypatch, RuntimeError("operation not permitted when stream is capturing\nmore"))
    with caplog.at_level(logging.WARNING):
        assert numbers(fit(TrainState(Small(), spec), *splits, spec)) == expected
    assert [record.message for record in caplog.records] == [
        "no CUDA graph, steps are launched kernel by kernel: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize("error", FULL_MEMORY)
def test_where_a_recording_does_not_fit_into_memory_the_trial_hears_of_it(make_trial, splits, monkeypatch, error):
    record_at_once(monkeypatch, error)
    spec = make_trial(**HARD)
    with pytest.raises(type(error), match=str(error)):
        list(fit(TrainState(Small(), spec), *splits, spec))


@GPU
@pytest.mark.parametrize("settings", [HARD, HARD | {"optimizer": {"name": "adamw"}}, INGREDIENTS, MUON])
def test_on_a_gpu_recorded_steps_give_the_numbers_of_steps_launched_kernel_by_kernel(
    make_trial, splits, monkeypatch, caplog, settings
):
    spec = make_trial(**settings, epochs=3, deterministic=True)
    on_gpu = [Split(split.images, split.labels).to(torch.device("cuda")) for split in splits]
    recorded, launched = TrainState(Small(), spec, "cuda"), TrainState(Small(), spec, "cuda")
    records = numbers(fit(recorded, *on_gpu, spec))
    monkeypatch.setattr(step, "WARM_UP_STEPS", 10**9)
    assert records == numbers(fit(launched, *on_gpu, spec))
    assert weights(recorded.evaluated).equal(weights(launched.evaluated))
    assert not caplog.records


def test_the_seed_decides_which_images_are_mirrored_first_and_how_much_is_mixed(make_trial, splits):
    ingredients = {"augmentation": {"flip": "alternating", "mixup": 1.0}}
    one, other = (step_of(make_trial(seed=seed, **ingredients), splits[0])[0] for seed in (1, 2))
    assert not one.augmenter.first_mirrored.equal(other.augmenter.first_mirrored)
    assert not one.mixer.shares.equal(other.mixer.shares)


def test_the_average_takes_in_what_the_step_has_learnt(make_trial, splits):
    one, state = step_of(make_trial(batch_size=8, averaging={"ema_decay": 0.9}), splits[0])
    state.average.set_share(1.0)
    one(torch.arange(8), 1, 0.1)
    assert weights(state.average.module).equal(weights(state.model))


def test_gradients_of_uneven_shares_average_to_the_whole_batchs(make_trial, splits, monkeypatch):
    """Of 8 images three workers have 3, 3 and 2; each moves by its own gradient here, which nothing averages."""
    spec = make_trial(batch_size=8, optimizer={"momentum": 0.0, "nesterov": False}, precision="fp32")
    begun, moves = Floats(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))), []
    monkeypatch.setattr(step, "distributed", lambda model: model)
    for place in ((0, 1), (0, 3), (1, 3), (2, 3)):
        monkeypatch.setattr(step, "world", lambda place=place: place)
        state = TrainState(copy.deepcopy(begun), spec)
        loop.step_of(state, splits[0], spec)(torch.arange(8), 1, 0.1)
        moves.append(state.model.inner[1].weight.detach() - begun.inner[1].weight.detach())
    assert torch.allclose(torch.stack(moves[1:]).mean(0), moves[0], atol=1e-6)


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [({}, "fp32"), ({"avx2": True}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")],
)
def test_auto_is_bf16_where_a_processor_has_instructions_for_it(monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert step.resolve_precision("auto", torch.device("cpu")) == precision
