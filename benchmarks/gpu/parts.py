"""What `python -m benchmarks.gpu` measures, most wanted first: on a GPU, and at tiny size where a CPU stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass

FOLDER = "{folder}"  # in a part's command: where the results lie
MARKS = (600, 840)  # seconds: a call's limit on a lent GPU, and what such a GPU is lent for, less its start


@dataclass(frozen=True, slots=True)
class Part:
    """One measurement: a benchmark's command, which takes `--json FILE`, and its estimated seconds."""

    name: str
    question: str
    seconds: float
    command: tuple[str, ...]  # of `python -m benchmarks.`


def _sweep(name: str, *options: str) -> tuple[str, ...]:
    """A sweep, in a folder that stays, so that a later call goes on with it."""
    where = ("--storage", f"{FOLDER}/sweeps/{name}", "--pack", f"{FOLDER}/{name}.tar.gz")
    return "whole", *where, "--", *options, "--name", name


_VGG = "sweeps/vgg.toml"
_SHARED = ("--gpus", "1", "--trials-per-gpu", "auto")
_SEEDS = ("--only", "scratch", "--set", "scratch.repeats=2", "--set", "scratch.seed=2")
_CUTMIX = ("cutmix=1.0", "mix_probability=0.25", "cutout=0")
_QUARTER = ("--only", "transfer", *(word for to in _CUTMIX for word in ("--set", f"transfer.augmentation.{to}")))
_BEST = ("PyTorch-bf16", "PyTorch-channels-last", "PyTorch-compile", "Lightning")

# Name, question, seconds, command. The seconds are estimates: epochs of 1.00 and 1.14 s, as on an H100 (LOG.md,
# 2026-11-26), with 1.3 times as much done by trials that share it; the rest by what such processes take to start.
_ON_A_GPU = {
    "checks": ("Do the kernels compute what PyTorch's layers do?", 60, ("checks",)),
    "recipes": ("What does a step take, with and without Muon's kernels?", 45, ("recipes", "--steps", "50")),
    "vgg": ("vgg.toml's four trials through Ray: 120 s?", 190, _sweep("vgg", _VGG, *_SHARED)),
    "scratch": ("Scratch with seeds 2 and 3", 240, _sweep("scratch", _VGG, *_SHARED, *_SEEDS)),
    "steps": (
        "Steps beside PyTorch at its best, torch.compile and Lightning; the share of the matrix rate",
        130,
        ("steps", "--rounds", "3", "--steps", "20", "--only", *_BEST),
    ),
    "overhead": ("What does Ray cost?", 110, ("overhead", "--rounds", "1")),
    "input": ("Images per CPU-second", 25, ("input", "--rounds", "3")),
    "report": (
        "report.toml's scratch arm",
        150,
        _sweep("report", "sweeps/report.toml", "--gpus", "1", "--only", "scratch"),
    ),
    "cutmix": (
        "CutMix for a quarter of transfer's images, three seeds",
        80,
        _sweep("cutmix", _VGG, *_SHARED, *_QUARTER),
    ),
}

TINY = "benchmarks/gpu/tiny.toml"
_ONE_TRIAL = ("--trials", "1", "--images", "60", "--epochs", "1")
_FEW_STEPS = ("--steps", "4", "--batch-size", "16", "--loader-workers", "0", "--only", "PyTorch-channels-last")
_ON_CORES = (TINY, "--gpus", "0")
_TWO_TRIALS = ("--only", "transfer-1", "--only", "scratch")
_REPORT = ("--only", "scratch", "--set", "data.validation=train")
_ON_A_CPU = {
    "checks": ("The same in Triton's interpreter", 40, ("checks",)),
    "recipes": ("tiny.toml's arms", 20, ("recipes", TINY, "--rounds", "1", "--steps", "1")),
    "vgg": ("Two trials of tiny.toml through Ray", 45, _sweep("vgg", *_ON_CORES, *_TWO_TRIALS)),
    "scratch": ("tiny.toml's scratch with seeds 2 and 3", 15, _sweep("scratch", *_ON_CORES, "--local", *_SEEDS)),
    "steps": ("Steps beside one peer", 25, ("steps", "--rounds", "1", *_FEW_STEPS)),
    "overhead": ("One trial through Ray", 60, ("overhead", "--rounds", "1", *_ONE_TRIAL)),
    "input": ("Images per CPU-second", 10, ("input", "--rounds", "1", "--images", "1000")),
    "report": ("tiny.toml, validated on training images", 15, _sweep("report", *_ON_CORES, "--local", *_REPORT)),
    "cutmix": ("tiny.toml with CutMix", 15, _sweep("cutmix", *_ON_CORES, "--local", *_QUARTER)),
}  # fmt: skip
DEVICES = {
    device: tuple(Part(name, question, seconds, command) for name, (question, seconds, command) in parts.items())
    for device, parts in (("cuda", _ON_A_GPU), ("cpu", _ON_A_CPU))
}


def listed(parts: Sequence[Part]) -> list[tuple[str, str, float, float, str]]:
    """Name, question, seconds, seconds up to its end, and which marks its end is within, of each part."""
    ends = [sum(part.seconds for part in parts[: i + 1]) for i in range(len(parts))]
    within = [", ".join(f"{mark} s" for mark in MARKS if end <= mark) for end in ends]
    return [
        (part.name, part.question, part.seconds, end, marks)
        for part, end, marks in zip(parts, ends, within, strict=True)
    ]
