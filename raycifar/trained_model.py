"""A finished trial's network, ready to predict."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from raycifar.analysis.predictions import load_images, read_tested
from raycifar.analysis.trial_state import ResultsError, TrialTrace, read_sweep, read_trial
from raycifar.config.datasets import Facts
from raycifar.config.sweep import TrialSpec
from raycifar.data.own.decode import bordered, look
from raycifar.data.splits import Split
from raycifar.networks.network import Network
from raycifar.networks.own import Own
from raycifar.networks.registry import make_network
from raycifar.storage.folders import SweepFolder, TrialFolder
from raycifar.storage.records import TrialSummary
from raycifar.storage.tensor_files import shapes_in
from raycifar.texts import in_one_line
from raycifar.training.evaluation import predict
from raycifar.user_code import CodeError

MOST_WEIGHT_BYTES = 500_000_000  # of a trial's weights, unless a caller lets more be read; VGG16's own have 60 MB

COMPARED_IMAGES = 16  # with the recorded predictions
# How far two probabilities of one network may lie apart: on two devices in fp32, and where the recorded one is of bf16.
APART, APART_IN_BF16 = 0.005, 0.1


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
            raise ValueError(
                f"images are uint8 {wanted}, RGB from 0 to 255, not {images.dtype} {(*images.shape,)}; `read` makes "
                "them of image files"
            )
        images = images.to(self.network.mean.device)
        return predict(self.network, Split(images, images.new_zeros(len(images), dtype=torch.int64))).softmax(1)

    def read(self, *files: str | Path) -> Tensor:
        """Image files of any size as `predict` takes them: uint8 RGB (N, 3, H, W), resized as its own images were.

        MNIST's kin have a border here that they were published without; so should the files be, and get it.
        Raises ValueError for a file that cannot be read.
        """
        images = [self._read(Path(file).expanduser()) for file in files]
        return torch.from_numpy(np.stack(images)) if images else torch.empty(0, *self.facts.shape, dtype=torch.uint8)

    def _read(self, file: Path) -> np.ndarray:
        side, resize, border = self.facts.side, self.trial.data.resize, self.trial.data.border
        pixels, seen = look(file, border.inner if border else side, resize)
        if pixels is not None and border:
            pixels, seen = look(bordered(pixels, border.width), side, resize)
        if pixels is None:
            raise ValueError(f"{file}: cannot be read as an image ({seen.flaw})")
        return pixels

    def names(self, images: Tensor) -> list[str]:
        """The most probable class of each image, by name; images as for `predict`."""
        return [self.classes[i] for i in self.predict(images).argmax(1).tolist()]


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    most_bytes: int = MOST_WEIGHT_BYTES,
    network: Own | None = None,
) -> TrainedModel:
    """The network of a trial's folder, or the best one of a sweep's folder, on `device`.

    The best one has the highest validation accuracy of the finished trials; where some were validated on held-out
    images, of those alone. It is never chosen by its test accuracy, which would then be too favourable. The network
    computes in fp32; where the trial was tested in bf16, predictions can differ from the recorded ones by rounding.
    It is compared with those on a few test images; where that is not possible, a UserWarning says so.
    A trial whose `model.source` is the user's own code needs that function as `network`: nothing here imports it.
    Raises ResultsError where no trial has finished, its files are broken, or the weights are not those on record.
    """
    model, unproven = load_compared(path, most_bytes, network)
    if unproven:
        warnings.warn(f"{path}: nothing shows that these are the weights that were tested: {unproven}", stacklevel=2)
    model.network.to(device)
    return model


def load_compared(
    path: str | Path, most_bytes: int = MOST_WEIGHT_BYTES, own: Own | None = None
) -> tuple[TrainedModel, str]:
    """As load_model, on the CPU, and why it could not be compared with the recorded predictions, or "".

    Raises ResultsError.
    """
    trace = best_trial(path)
    file, source = trace.folder.best_weights, trace.spec.model.source
    if source and own is None:
        raise ResultsError(
            f"{trace.folder.path}: its network is the user's own code, {source}, which nothing here imports: "
            "import it yourself, and hand it over as load_model(path, network=...)"
        )
    try:
        network = _network_with(trace.spec, file, most_bytes, own)
    except FileNotFoundError:  # as in results that are kept without their weights
        raise ResultsError(
            f"{file}: the trial's weights are not there; restore the file, or run the trial again"
        ) from None
    except (OSError, SafetensorError, RuntimeError, ValueError, CodeError) as error:
        raise ResultsError(
            f"{file}: not the trial's weights ({in_one_line(error)}); restore the file, or run the trial again"
        ) from None
    assert trace.summary is not None  # noqa: S101 - best_trial chooses among the finished
    network.eval().to(memory_format=torch.channels_last)
    model = TrainedModel(network, trace.spec, trace.summary)
    return model, _why_not_compared(model, trace.folder)


def _why_not_compared(model: TrainedModel, folder: TrialFolder) -> str:
    """Why the network cannot be compared with the trial's recorded predictions; "" where it gives them again.

    Raises ResultsError where it gives others.
    """
    summary, path = model.summary, folder.predictions
    try:
        tested = read_tested(summary.trial, summary.arm, path, summary.test_accuracy, [], model.facts)
    except FileNotFoundError:
        return f"{path} is not there"
    except Exception as error:  # of any kind, as read_predictions says
        return f"{path}: {str(error) or type(error).__name__}"
    images, why = load_images(tested.tests.first(COMPARED_IMAGES))
    if images is None:
        return why
    said = model.predict(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()).numpy()
    recorded, confidence = tested.predicted[: len(said)], tested.confidence[: len(said)]
    apart = np.abs(said[np.arange(len(said)), recorded] - confidence)
    if not apart.max() <= (APART if summary.precision == "fp32" else APART_IN_BF16):
        worst = int(np.nan_to_num(apart, nan=2).argmax())
        raise ResultsError(
            f"{folder.best_weights}: not the weights that were tested: of image {worst} of the test they say "
            f"{model.classes[recorded[worst]]} with {said[worst, recorded[worst]]:.3f}, where {path.name} says "
            f"{confidence[worst]:.3f}; restore the file, or run the trial again"
        )
    return ""


def _network_with(spec: TrialSpec, file: Path, most_bytes: int, own: Own | None = None) -> Network:
    """The network with a file's weights; nothing of its size is allocated before the file is known to have them.

    Raises OSError, SafetensorError, RuntimeError, or ValueError for weights of another network.
    """
    found = shapes_in(file, most_bytes)
    with torch.device("meta"):  # shapes alone
        expected = {
            name: tuple(weight.shape)
            for name, weight in make_network(spec.model, spec.data.facts, own).state_dict().items()
        }
    if other := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = other[0]
        raise ValueError(f"{name} is {found.get(name, 'missing')}, where the trial has {expected.get(name, 'none')}")
    weights = load_file(file)
    if bad := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise ValueError(f"{bad[0]} holds values that are not finite")
    network = make_network(spec.model, spec.data.facts, own)
    network.load_state_dict(weights)
    return network


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
