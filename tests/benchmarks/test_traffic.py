"""The paper's launches and bytes, beside what is known of the step and of single operations."""

import pytest
import torch

from benchmarks import traffic
from benchmarks.launches import Recorder, launches
from raycifar.config.datasets import CIFAR10
from raycifar.config.settings import Model
from raycifar.config.sweep_file import load_sweep
from raycifar.networks.cost import flops_an_image
from raycifar.networks.registry import build_network
from raycifar.training import muon
from tests.support.paths import ROOT

pytest.importorskip("triton")
TRIAL = load_sweep(ROOT / "sweeps" / "vgg.toml").trials[0]
WEIGHTS = sum(p.numel() for p in build_network(Model(weights="random", batch_norm=True), CIFAR10, 1).parameters())
KERNELS = WEIGHTS - 2 * sum((64, 64, 128, 128, 256, 256, 256, *[512] * 6)) - 5130 - 3 * 64 * 9  # what Muon moves


def with_optimizer(name):
    return TRIAL.model_copy(update={"optimizer": TRIAL.optimizer.model_copy(update={"name": name})})


@pytest.fixture(scope="module")
def steps():
    return {
        "sgd": launches(with_optimizer("sgd")),
        "muon": launches(with_optimizer("muon")),
        "fused": launches(with_optimizer("muon"), fused=True),
    }


def recorded(run):
    recorder = Recorder()
    with recorder:
        run()
    return recorder.seen


def test_an_operations_bytes_are_its_inputs_and_outputs_once():
    a, b = torch.ones(10, 20), torch.ones(20, 30)
    (product,) = recorded(lambda: a @ b)
    assert (product.launches, product.bytes, product.flops) == (1, 4 * (200 + 600 + 300), 2 * 10 * 20 * 30)
    (changed,) = recorded(lambda: a.add_(1))
    assert changed.bytes == 4 * 2 * 200
    (cast,) = recorded(a.bfloat16)
    assert cast.bytes == 6 * 200
    (out,) = recorded(lambda: torch.addcmul(a, a, a, out=torch.empty(10, 20)))
    assert out.bytes == 4 * (3 + 1) * 200
    (taken,) = recorded(lambda: torch.ones(1_000_000, 4)[torch.tensor([1, 2])])[1:]
    assert taken.bytes == 4 * 8 * 2 + 8 * 2


def test_views_and_empty_tensors_launch_nothing():
    def views():
        return torch.empty(4, 6).t().unsqueeze(0).expand(3, 6, 4)[:, 0].detach()

    assert recorded(views) == []


def test_a_convolutions_gradients_read_the_one_above_twice_and_the_images_gradient_is_left_out_where_nobody_asks():
    layer, images = torch.nn.Conv2d(2, 5, 3, padding=1, bias=False), torch.ones(7, 2, 4, 4)
    (first,) = [one for one in recorded(lambda: layer(images).sum().backward()) if "convolution_backward" in one.name]
    assert (first.launches, first.flops) == (1, 2 * 7 * 16 * 90)
    asked = images.clone().requires_grad_()
    (later,) = [one for one in recorded(lambda: layer(asked).sum().backward()) if "convolution_backward" in one.name]
    output, pixels, kernel = 7 * 5 * 16, 7 * 2 * 16, 90
    # The gradient above comes from a sum: one number, expanded.
    assert (later.launches, later.flops) == (2, 2 * 2 * 7 * 16 * 90)
    assert later.bytes in (4 * (2 * n + 2 * pixels + 2 * kernel) for n in (1, output))


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_the_steps_operations_are_those_of_the_cost_by_arithmetic(steps, name):
    trial = with_optimizer(name)
    assert sum(one.flops for one in steps[name]) == pytest.approx(128 * flops_an_image(trial)[1], rel=0.03)


def test_every_launch_is_in_one_row_and_the_rows_add_up(steps):
    for found in steps.values():
        *rows, whole = traffic.step_table("", found).rows
        for column in range(1, 6):
            assert sum(row[column] for row in rows) == pytest.approx(whole[column])


def test_sgds_bytes_are_five_passes_over_the_weights(steps):
    of_sgd = [one for one in steps["sgd"] if one.name.startswith("aten::_fused_sgd")]
    assert sum(one.bytes for one in of_sgd) == pytest.approx(5 * 4 * WEIGHTS, rel=1e-3)


def test_a_fused_batch_norm_has_six_kernels(steps):
    of_norms = [one for one in steps["sgd"] if traffic.row_of(one) == "batch norm, pooling, ReLU"]
    assert sum(one.launches for one in of_norms) == 6 * 13


def test_muons_kernels_read_and_write_each_number_as_often_as_they_say(steps):
    by_name = {name: sum(one.bytes for one in steps["fused"] if one.name == name) for name in ("gather", "move")}
    assert by_name["gather"] == pytest.approx((2 + 4 + 4 + 2) * KERNELS, rel=1e-3)
    assert by_name["move"] == pytest.approx((4 + 2 + 4) * KERNELS, rel=1e-3)


def test_no_gradient_of_a_kernel_is_cast(steps):
    def casts(found):
        return sum(
            one.launches for one in found if one.phase == "network" and one.kinds == (torch.bfloat16, torch.float32)
        )

    assert casts(steps["muon"]) - casts(steps["fused"]) == 12


def test_muons_kernels_launch_and_move_less(steps):
    def of_muon(found):
        part = [one for one in found if one.phase == "optimizer"]
        return sum(one.launches for one in part), sum(one.bytes for one in part)

    (launched, moved), (fused_launched, fused_moved) = of_muon(steps["muon"]), of_muon(steps["fused"])
    assert fused_launched < 0.7 * launched
    assert fused_moved < 0.8 * moved
    assert not muon.FUSED


def test_on_paper_a_kernel_takes_no_less_than_its_bytes_its_operations_or_a_launch(steps):
    for one in steps["muon"]:
        seconds = traffic.with_launches(one)
        assert seconds >= max(one.bytes / traffic.MEMORY, one.flops / traffic.MATRIX, traffic.LEAST)


def test_the_table_names_what_was_not_run(capsys):
    assert traffic.main(["--markdown"]) == 0
    shown = capsys.readouterr().out
    assert "| Muon, muon.FUSED |" in shown
    assert shown.count("not run on a GPU") == 1
    assert "0.8 ms is 38 % of 790 TFLOP/s" in shown
