"""Where the tests find the project, its sweep files, and the samples of real data (tests/samples/README.md)."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "sweeps"
SAMPLES = ROOT / "tests" / "samples"
SAMPLE = SAMPLES / "cifar10_sample.safetensors"  # 320 training and 160 test images of CIFAR-10
QUICK = SAMPLES / "quick"  # a real sweep's folder
