"""Transfer learning against training from scratch, in parallel on Ray: VGG16 on CIFAR-10, or your own.

>>> from raycifar import Options, load_model, read_results, run_sweep
>>> results = run_sweep("sweeps/quick.toml", Options(gpus=0))   # or read_results("~/ray_results/quick")
>>> results.trials[["trial", "test_accuracy"]]
>>> load_model(results.path).names(images)                      # uint8 RGB images (N, 3, H, W)

A name's module is imported when the name is first used (PEP 562): reading results imports neither torch nor Ray.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raycifar.analysis.report.report import write_report
    from raycifar.analysis.results import Results, read_results
    from raycifar.config.sweep import SweepSpec
    from raycifar.config.sweep_file import load_sweep
    from raycifar.execution.options import Options
    from raycifar.library import run_sweep
    from raycifar.trained_model import TrainedModel, load_model

__all__ = [
    "Options",
    "Results",
    "SweepSpec",
    "TrainedModel",
    "load_model",
    "load_sweep",
    "read_results",
    "run_sweep",
    "write_report",
]

_ROOMS = {
    "Options": "execution.options",
    "Results": "analysis.results",
    "SweepSpec": "config.sweep",
    "TrainedModel": "trained_model",
    "load_model": "trained_model",
    "load_sweep": "config.sweep_file",
    "read_results": "analysis.results",
    "run_sweep": "library",
    "write_report": "analysis.report.report",
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module 'raycifar' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"raycifar.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
