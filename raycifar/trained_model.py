"""A finished trial's network, ready to predict."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raycifar.analysis.trial_state import ResultsError, TrialTrace, read_sweep, read_trial
from raycifar.config.datasets import Facts
from raycifar.config.sweep import TrialSpec
from raycifar.data.splits import Split
from raycifar.networks.network import Network
from raycifar.networks.registry import make_network
from raycifar.storage.files import open_file
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import TrialSummary
from raycifar.training.evaluation import predict


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The network with the weights that were tested, in evaluation mode, and the trial that it comes from.

    `network` maps uint8 RGB images (N, 3, H, W), 0 to 255, to logits (N, classes); it normalises them itself.
    """

    network: Network
    trial: TrialSpec
    summary: TrialSummary

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.facts.classes

    @property
    def facts(self) -> Facts:
        """What is known of the data set that it was trained on."""
        return self.trial.data.facts

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities float32 (N, classes) of uint8 RGB images (N, 3, H, W), on the network's device, in fp32.

        Raises ValueError for images of another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != self.facts.shape:
            wanted = f"(N, {', '.join(map(str, self.facts.shape))})"
            raise ValueError(f"images are uint8 {wanted}, RGB from 0 to 255, not {images.dtype} {(*images.shape,)}")
        images = images.to(self.network.mean.device)
        return predict(self.network, Split(images, images.new_zeros(len(images), dtype=torch.int64))).softmax(1)

    def names(self, images: Tensor) -> list[str]:
        """The most probable class of each image, by name; images as for `predict`."""
        return [self.classes[i] for i in self.predict(images).argmax(1).tolist()]


def load_model(path: str | Path, device: torch.device | str = "cpu") -> TrainedModel:
    """The network of a trial's folder, or the best one of a sweep's folder, on `device`.

    The best one has the highest validation accuracy of the finished trials; where some were validated on held-out
    images, of those alone. It is never chosen by its test accuracy, which would then be too favourable. The network
    computes in fp32; where the trial was tested in bf16, predictions can differ from the recorded ones by rounding.
    Raises ResultsError where no trial has finished or its files are broken.
    """
    trace = best_trial(path)
    file = trace.folder.best_weights
    try:
        open_file(file).close()  # a pipe would keep the next line waiting
        weights = load_file(file)
        network = make_network(trace.spec.model, trace.spec.data.facts)
        network.load_state_dict(weights)
    except FileNotFoundError:  # as in results that are kept without their weights
        raise ResultsError(
            f"{file}: the trial's weights are not there; restore the file, or run the trial again"
        ) from None
    except (OSError, SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ResultsError(
            f"{file}: not the trial's weights ({why}); restore the file, or run the trial again"
        ) from None
    assert trace.summary is not None  # noqa: S101 - best_trial chooses among the finished
    network.eval().to(device).to(memory_format=torch.channels_last)
    return TrainedModel(network, trace.spec, trace.summary)


def best_trial(path: str | Path) -> TrialTrace:
    """The finished trial that `load_model` loads. Raises ResultsError."""
    _, traces = read_trials(path)
    finished = [trace for trace in traces if trace.summary and not trace.problems]
    if not finished:
        problems = "; ".join(problem for trace in traces for problem in trace.problems)
        remedy = problems or "run the sweep to its end (the same command resumes)"
        raise ResultsError(f"{path}: no trial has finished, so there is no tested network: {remedy}")
    held_out = [trace for trace in finished if trace.spec.data.validation == "holdout"]
    return max(held_out or finished, key=_validation)


def _validation(trace: TrialTrace) -> float:
    return trace.summary.best_val_accuracy if trace.summary else 0.0


def read_trials(path: str | Path) -> tuple[SweepFolder, list[TrialTrace]]:
    """The sweep that `path` is or lies in, and its trials: all of them, or the one whose folder `path` is.

    Raises ResultsError where it is neither.
    """
    path = Path(path).expanduser().absolute()
    in_sweep = not (path / "sweep.json").exists() and (path.parent / "sweep.json").exists()
    folder = SweepFolder(path.parent if in_sweep else path)
    trials = read_sweep(folder)[1].trials
    chosen = [trial for trial in trials if not in_sweep or trial.name == path.name]
    if not chosen:
        raise ResultsError(f"{path}: no such trial; the sweep has {', '.join(trial.name for trial in trials)}")
    return folder, [read_trial(folder.trial(trial.name), trial) for trial in chosen]
