"""PyTorch's optimizers without its compiler: the same numbers, and nothing of it imported."""

import subprocess
import sys

import pytest
import torch

from raycifar.training import eager
from tests.support.paths import ROOT

KINDS = [
    (eager.SGD, torch.optim.SGD, {"momentum": 0.9}),
    (eager.Adam, torch.optim.Adam, {}),
    (eager.AdamW, torch.optim.AdamW, {}),
]


def trained(kind, settings, steps, weights=None, state=None):
    """Weights and state after so many steps of a small problem."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 6) if weights is None else weights)
    optimizer = kind([weight], 0.1, weight_decay=0.01, fused=True, **settings)
    if state:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        (weight**3).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return weight.detach(), optimizer.state_dict()


@pytest.mark.parametrize(("ours", "theirs", "settings"), KINDS)
def test_each_steps_as_pytorchs_own_to_the_bit_and_reads_its_state(ours, theirs, settings):
    weights, state = trained(ours, settings, 3)
    others, other_state = trained(theirs, settings, 3)
    assert torch.equal(weights, others)
    assert torch.equal(
        trained(ours, settings, 2, others, other_state)[0], trained(theirs, settings, 2, weights, state)[0]
    )


USED = """
import pathlib, sys
from raycifar.training.trial import Assets, Caller, Place, run_trial
from tests.support.paths import SAMPLE
from tests.support.sweeps import sweep_of
folder = pathlib.Path(sys.argv[1])
model = {"weights": "random", "batch_norm": True}
settings = {"epochs": 1, "model": model}
for trial in sweep_of(**{name: {**settings, "optimizer": {"name": name}} for name in ("muon", "adamw")}).trials:
    (folder / trial.name).mkdir()
    run_trial(trial, folder / trial.name, Assets(SAMPLE, None), Place("cpu", 1, "here:cpu"), Caller(lambda *_: None))
print(*{"torch._dynamo", "torch._inductor", "sympy", "torchvision"} & sys.modules.keys())
"""


def test_a_trial_of_a_vgg_imports_neither_pytorchs_compiler_nor_torchvision(tmp_path):
    command = [sys.executable, "-c", USED, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
