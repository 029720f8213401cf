"""What a network costs: floating-point operations, by arithmetic from its geometry.

A network of a library is looked at once (networks.inspection), for which PyTorch is needed.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

from raycifar.config.architectures import ARCHITECTURES, VGG16, Architecture, blocks_below
from raycifar.config.sweep import TrialSpec


def largest_step(trials: Sequence[TrialSpec]) -> TrialSpec:
    """The trial whose training step takes most operations, and so most memory for activations."""
    return max(trials, key=lambda trial: trial.batch_size * flops_an_image(trial)[1])


def blocks(network: Architecture = VGG16, side: int = 32) -> list[tuple[int, list[tuple[int, int]]]]:
    """The side of the images, and the channels into and out of each convolution, by block."""
    return [(side >> depth, block) for depth, block in enumerate(network.convolutions())]


def work(trial: TrialSpec) -> float:
    """Floating-point operations of the whole trial: training, validation every epoch, and what comes at its end."""
    train, val, test = trial.data.images
    forward, step = flops_an_image(trial)
    averaging = trial.averaging
    # The plain mean of one epoch's weights is the network itself, and so has its statistics.
    recomputed = trial.epochs if averaging.ema_recompute_batch_norm else max(0, averaging.swa_epochs - 1)
    passes = recomputed if trial.model.batch_norm else 0  # over the training images, for batch norm's statistics
    tests = 2 if trial.data.facts.mirror else 1  # of which one sees mirror images
    at_the_end = tests * test + trial.data.measure_training * train
    return trial.epochs * (train * step + val * forward) + passes * train * forward + at_the_end * forward


def flops_an_image(trial: TrialSpec) -> tuple[float, float]:
    """Operations of a forward pass, and of a training step, for one image (a multiply-add counts as two)."""
    if trial.model.source:
        return _own_flops_an_image(trial)
    facts, model = trial.data.facts, trial.model
    side, widths = model.sees(facts.side), (*model.hidden, len(facts.classes))
    if model.name not in ARCHITECTURES:
        return _flops_of_a_library(trial, side, widths)
    network = ARCHITECTURES[model.name]
    forward, step = _flops_an_image(network, side, (network.features, *widths), model.train)
    muon = _muon_flops(network, model.train) if trial.optimizer.name == "muon" else 0.0
    return forward, step + muon / trial.batch_size


def _own_flops_an_image(trial: TrialSpec) -> tuple[float, float]:
    """Of a network of the user's: counted without images; what trains costs three times its forward pass."""
    from raycifar.networks.own import own_flops  # PyTorch, which a refusal of the command need not import

    model, facts = trial.model, trial.data.facts
    trunk, features = own_flops(model.source, facts, model.sees(facts.side))
    head = _head_flops((features, *model.hidden, len(facts.classes)))
    return trunk + head, (trunk if model.train == "head" else 3 * trunk) + 3 * head


def _head_flops(widths: Sequence[int]) -> float:
    return sum(2.0 * inputs * outputs for inputs, outputs in pairwise(widths))


@cache
def _flops_an_image(network: Architecture, side: int, widths: tuple[int, ...], train: str) -> tuple[float, float]:
    """`widths` are those into and out of the head's layers."""
    layers = [
        2.0 * 9 * in_channels * out_channels * side**2
        for side, convolutions in blocks(network, side)
        for in_channels, out_channels in convolutions
    ]
    layers += [2.0 * inputs * outputs for inputs, outputs in pairwise(widths)]
    first = _first_trained(network, train)
    # Each trained layer costs a forward pass's worth again for its weights' gradient, and once more for its input's,
    # which the first trained layer does not need.
    return sum(layers), sum(layers) + 2 * sum(layers[first:]) - layers[first]


def _flops_of_a_library(trial: TrialSpec, side: int, widths: tuple[int, ...]) -> tuple[float, float]:
    """As _flops_an_image; the rule for a step is the same, by block and not by layer."""
    from raycifar.networks.inspection import inspected

    trunk = inspected(trial.model.name, side)
    head = [2.0 * inputs * outputs for inputs, outputs in pairwise((trunk.features, *widths))]
    trained = trunk.blocks[blocks_below(trial.model.train, len(trunk.blocks)) :]
    forward = trunk.flops + sum(head)
    step = (
        forward + 2 * (sum(block.flops for block in trained) + sum(head)) - (trained[0].first if trained else head[0])
    )
    if trial.optimizer.name == "muon":
        step += _orthogonal([kernel for block in trained for kernel in block.kernels]) / trial.batch_size
    return forward, step


@cache
def _muon_flops(network: Architecture, train: str) -> float:
    """Of a step's matrix products in muon.orthogonal, for all trained kernels (out_channels, 9 * in_channels)."""
    channels = [pair for block in network.convolutions() for pair in block][_first_trained(network, train) :]
    return _orthogonal([(out_channels, 9 * in_channels) for in_channels, out_channels in channels])


def _orthogonal(kernels: Sequence[tuple[int, int]]) -> float:
    return sum(4.0 * rows**2 * columns + 20.0 * rows**3 for rows, columns in kernels if rows <= columns)


def _first_trained(network: Architecture, train: str) -> int:
    """The number of the first convolution that trains, which is how many are frozen."""
    return sum(len(block) for block in network.blocks[: blocks_below(train, len(network.blocks))])
