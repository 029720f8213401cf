import pytest
import torch

from raycifar.config.settings import Optimizer
from raycifar.training import muon
from raycifar.training.optimizers import build_optimizer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def kernels(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lopsided(rows=16, columns=144):
    """As gradients are: two matrices with singular values from 1 down to 0.05."""
    left, _, right = torch.linalg.svd(kernels(2, rows, columns), full_matrices=False)
    return left @ torch.diag(torch.logspace(0, -1.3, rows)) @ right


def orthogonal(matrices):
    """As long as if all singular values were 1."""
    lengths = torch.full((len(matrices),), matrices.shape[1] ** 0.5)
    return torch.stack(muon.orthogonal(list(matrices), lengths))


def test_the_orthogonal_matrix_is_as_strong_in_all_directions():
    values = torch.linalg.svdvals(orthogonal(lopsided()))
    assert 0.5 < values.min() < values.max() < 1.3


def test_the_orthogonal_matrix_keeps_the_directions():
    left, _, right = torch.linalg.svd(lopsided(), full_matrices=False)
    turned = left.mT @ orthogonal(lopsided()) @ right.mT
    strengths = turned.diagonal(dim1=1, dim2=2)
    assert torch.allclose(turned, torch.diag_embed(strengths), atol=1e-4)
    assert (strengths > 0).all()


def test_multiplying_the_rounds_first_gives_what_the_iteration_gives():
    expected = lopsided()
    expected = expected / expected.norm(dim=(1, 2), keepdim=True)
    for _ in range(muon.ROUNDS):
        gram = expected @ expected.mT
        expected = muon.A * expected + (muon.B * gram + muon.C * gram @ gram) @ expected
    expected *= 16**0.5 / expected.norm(dim=(1, 2), keepdim=True)
    assert torch.allclose(orthogonal(lopsided()), expected, atol=1e-4)


def test_matrices_with_fewer_rows_than_others_are_turned_as_alone():
    matrices = [lopsided(rows, columns)[0] for rows, columns in ((16, 144), (4, 36), (8, 144))]
    together = muon.orthogonal(matrices, torch.tensor([2.0, 0.5, 1.0]))
    for matrix, length, turned in zip(matrices, (2.0, 0.5, 1.0), together, strict=True):
        assert torch.allclose(turned, muon.orthogonal([matrix], torch.tensor([length]))[0], atol=1e-6)


def test_matrices_of_different_widths_are_each_as_long_as_asked():
    matrices = [lopsided(columns=columns)[0] for columns in (144, 72)]
    turned = muon.orthogonal(matrices, torch.tensor([2.0, 0.5]))
    assert [matrix.norm().item() for matrix in turned] == pytest.approx([2.0, 0.5], rel=1e-5)


class Network(torch.nn.Module):
    """A convolution with fewer inputs to a pixel than outputs, one with more, and a head."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.features = torch.nn.Sequential(
                torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.Conv2d(16, 16, 3, padding=1)
            )
            self.head = torch.nn.Linear(16, 10)

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


WIDE = "features.1.weight"


def after_steps(steps=1, **settings):
    """The parameters before and after steps on the same few pixels."""
    model = Network().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, Optimizer(**settings))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        group["lr"] = settings["lr"] * group["lr_ratio"]
    for _ in range(steps):
        model(kernels(4, 1, 6, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return before, {name: parameter.detach() for name, parameter in model.named_parameters()}


def test_a_step_moves_a_kernel_by_its_share_of_the_norm():
    before, after = after_steps(name="muon", lr=1e-3, muon_lr=0.02)
    moved = after[WIDE] - before[WIDE]
    assert (moved.norm() / before[WIDE].norm()).item() == pytest.approx(0.02, rel=0.02)


def test_a_kernel_keeps_its_norm_to_within_a_step():
    before, after = after_steps(name="muon", steps=50, lr=1e-3, muon_lr=0.02)
    assert after[WIDE].norm().item() == pytest.approx(before[WIDE].norm().item(), rel=0.02)


def test_a_step_goes_against_the_gradient_in_all_its_directions():
    model = Network()
    model(kernels(4, 1, 6, 6)).square().sum().backward()
    direction = orthogonal(model.features[1].weight.grad.flatten(1)[None]).flatten()
    before, after = after_steps(name="muon", lr=1e-3, muon_lr=1e-3, momentum=0.0, nesterov=False)
    moved = (after[WIDE] - before[WIDE]).flatten()
    assert torch.nn.functional.cosine_similarity(moved, -direction, 0) > 0.99


def test_all_but_the_wide_kernels_are_trained_by_sgd():
    settings = {"lr": 1e-3, "weight_decay": 0.1}
    (_, by_sgd), (_, by_muon) = after_steps(name="sgd", **settings), after_steps(name="muon", **settings)
    assert [name for name in by_sgd if not by_sgd[name].equal(by_muon[name])] == [WIDE]


def test_momentum_makes_no_step_longer():
    moved = {}
    for momentum in (0.0, 0.9):
        settings = {"momentum": momentum, "nesterov": momentum > 0, "lr": 1e-9, "muon_lr": 1e-6}
        before, after = after_steps(name="muon", steps=20, **settings)
        moved[momentum] = (after[WIDE] - before[WIDE]).norm().item()
    assert moved[0.9] == pytest.approx(moved[0.0], rel=0.05)  # SGD's would be ten times as long


@pytest.mark.parametrize("nesterov", [False, True])
def test_gradients_of_earlier_steps_count_as_with_sgd(monkeypatch, nesterov):
    monkeypatch.setattr(muon, "orthogonal", lambda matrices, lengths: [-1e-5 * matrix for matrix in matrices])
    ours, theirs = (torch.nn.Parameter(kernels(4, 2, 3, 3)) for _ in range(2))
    settings = {"lr": 1e-5, "momentum": 0.9, "nesterov": nesterov}
    optimizers = muon.Muon([{"params": [ours], "kernels": True}], **settings), torch.optim.SGD([theirs], **settings)
    for step in range(3):
        before = ours.detach().clone(), theirs.detach().clone()
        ours.grad, theirs.grad = (kernels(4, 2, 3, 3, seed=step + 2) for _ in range(2))
        for optimizer in optimizers:
            optimizer.step()
    a, b = ours.detach() - before[0], theirs.detach() - before[1]
    # Without their part along the kernel, which Muon takes back.
    a, b = (moved - (moved * before[0]).sum() * before[0] / before[0].square().sum() for moved in (a, b))
    assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.999


def test_kernels_are_moved_together_as_each_alone():
    shapes = [(4, 2, 3, 3), (4, 2, 3, 3), (8, 2, 3, 3), (4, 2, 3, 3)]
    together = [torch.nn.Parameter(kernels(*shape, seed=seed)) for seed, shape in enumerate(shapes)]
    alone = [torch.nn.Parameter(kernel.detach().clone()) for kernel in together]
    teams = [together, *([kernel] for kernel in alone)]
    optimizers = [muon.Muon([{"params": team, "kernels": True}], lr=0.1, momentum=0.9, nesterov=True) for team in teams]
    for step in range(2):
        for seed, (a, b) in enumerate(zip(together, alone, strict=True)):
            a.grad, b.grad = (kernels(*a.shape, seed=100 * step + 50 + seed) for _ in range(2))
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_gradient_of_zeros_moves_nothing():
    kernel = torch.nn.Parameter(kernels(4, 2, 3, 3))
    optimizer = muon.Muon([{"params": [kernel], "kernels": True}], lr=0.1, momentum=0.9)
    before, kernel.grad = kernel.detach().clone(), torch.zeros_like(kernel)
    optimizer.step()
    assert torch.allclose(kernel, before)


def test_a_kernel_without_a_gradient_stays():
    kernel = torch.nn.Parameter(kernels(4, 2, 3, 3))
    before = kernel.detach().clone()
    muon.Muon([{"params": [kernel], "kernels": True}], lr=0.1, momentum=0.9).step()
    assert kernel.equal(before)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_products_are_in_the_precision_that_surrounds_the_step(precision):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        assert orthogonal(lopsided()).dtype == precision


def test_bf16_turns_a_kernel_nearly_as_fp32_does():
    exact = orthogonal(lopsided())
    with torch.autocast("cpu", torch.bfloat16):
        rough = orthogonal(lopsided()).float()
    assert ((rough - exact).norm() / exact.norm()).item() < 0.05


# With muon_kernels.py, in Triton's interpreter where there is no GPU -------------------------------------------------

SHAPES = [(8, 4, 3, 3), (4, 2, 3, 3), (16, 8, 3, 3), (16, 130, 3, 3), (8, 8, 3, 3)]


def moved(fused, monkeypatch, nesterov=True, precision=None, steps=3, layout=torch.channels_last):
    """Kernels and momentum after steps, by Triton's kernels or by PyTorch's operations."""
    monkeypatch.setattr(muon, "FUSED", fused)
    team = [
        torch.nn.Parameter(on(kernels(*shape, seed=seed), torch.channels_last)) for seed, shape in enumerate(SHAPES)
    ]
    optimizer = muon.Muon([{"params": team, "kernels": True}], lr=0.1, momentum=0.9, nesterov=nesterov)
    for step in range(steps):
        for seed, kernel in enumerate(team):
            kernel.grad = on(kernels(*kernel.shape, seed=100 * step + 50 + seed), layout)
        with torch.autocast(DEVICE, precision, enabled=precision is not None):
            optimizer.step()
    return [kernel.detach() for kernel in team], [optimizer.state[kernel]["momentum_buffer"] for kernel in team]


def on(tensor, layout):
    return tensor.to(DEVICE).contiguous(memory_format=layout)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_tritons_kernels_move_as_pytorchs_operations_do(monkeypatch, nesterov, layout):
    pytest.importorskip("triton")
    ours, theirs = (moved(fused, monkeypatch, nesterov, layout=layout) for fused in (True, False))
    for a, b in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_in_bf16_too_they_differ_by_rounding_alone(monkeypatch):
    pytest.importorskip("triton")
    (ours, means), (theirs, expected) = (moved(fused, monkeypatch, precision=torch.bfloat16) for fused in (True, False))
    for a, b in zip(ours, theirs, strict=True):
        assert ((a - b).norm() / b.norm()).item() < 5e-3
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(means, expected, strict=True))


def test_the_kernels_are_used_where_they_fit_and_only_when_asked(monkeypatch):
    triton_kernels = pytest.importorskip("raycifar.training.muon_kernels")
    launched = []
    for name in ("gather", "move"):
        kernel = getattr(triton_kernels, name)
        monkeypatch.setattr(triton_kernels, name, Counted(kernel, launched, name))
    moved(False, monkeypatch, steps=1)
    assert launched == []
    moved(True, monkeypatch, steps=1)
    assert sorted(launched) == ["gather"] * len(SHAPES) + ["move"] * len(SHAPES)


class Counted:
    """A kernel that notes that it was launched."""

    def __init__(self, kernel, launched, name):
        self.kernel, self.launched, self.name = kernel, launched, name

    def __getitem__(self, grid):
        self.launched.append(self.name)
        return self.kernel[grid]


def test_kernels_in_other_memory_are_moved_by_pytorchs_operations():
    assert muon.fits([kernels(4, 2, 3, 3).contiguous(memory_format=torch.channels_last)])
    assert not muon.fits([kernels(4, 2, 3, 3)])
    assert not muon.fits([kernels(4, 2, 3, 3).bfloat16().contiguous(memory_format=torch.channels_last)])


def test_narrow_kernels_share_a_batch_and_the_widest_have_their_own():
    assert muon.by_width([kernels(rows, 9) for rows in (4, 8, 8, 2)]) == [[1, 2], [0, 3]]
    assert muon.by_width([kernels(8, 9), kernels(8, 18)]) == [[0, 1]]


@pytest.mark.parametrize(("fused", "clip", "taken"), [(True, 0.0, True), (False, 0.0, False), (True, 1.0, False)])
def test_gradients_keep_their_precision_only_where_nobody_but_muon_reads_them(monkeypatch, fused, clip, taken):
    monkeypatch.setattr(muon, "FUSED", fused)
    model = Network()
    build_optimizer(model, Optimizer(name="muon", clip_norm=clip))
    precisions = {name: parameter.grad_dtype for name, parameter in model.named_parameters()}
    assert precisions.pop(WIDE) == (None if taken else torch.float32)
    assert set(precisions.values()) == {torch.float32}


@pytest.mark.parametrize("fused", [False, True])
def test_a_gradient_in_bf16_moves_a_kernel_as_the_same_numbers_in_float32(monkeypatch, fused):
    monkeypatch.setattr(muon, "FUSED", fused)
    told = []
    for precision in (torch.bfloat16, torch.float32):
        kernel = torch.nn.Parameter(on(kernels(8, 4, 3, 3), torch.channels_last))
        muon.take_gradients_as_they_are([kernel])
        kernel.grad = on(kernels(8, 4, 3, 3, seed=2).bfloat16().to(precision), torch.channels_last)
        muon.Muon([{"params": [kernel], "kernels": True}], lr=0.1, momentum=0.9).step()
        told.append(kernel.detach())
    assert told[0].equal(told[1])
