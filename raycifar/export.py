"""The best network for use elsewhere: safetensors, ONNX checked against PyTorch, and a model card."""

import importlib.util
import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from safetensors.torch import save
from torch import Tensor

from raycifar.analysis.predictions import read_predictions
from raycifar.analysis.report.comparing import reached
from raycifar.analysis.results import read_results
from raycifar.analysis.statistics.contrasts import estimate
from raycifar.analysis.statistics.formulas import sample
from raycifar.analysis.tested_arms import arm_of
from raycifar.config.architectures import title_of
from raycifar.config.data import Data
from raycifar.config.settings import Model
from raycifar.config.sweep import TrialSpec
from raycifar.data.sources import fetch_data
from raycifar.data.splits import load_splits
from raycifar.errors import InputError
from raycifar.program import program
from raycifar.storage.asset_cache import AssetError
from raycifar.storage.beneath import Beneath, make_folder, write_bytes
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import SweepRecord, TrialSummary
from raycifar.texts import filtered, markdown
from raycifar.trained_model import TrainedModel, load_compared, read_trials

PACKAGES = ("onnx", "onnxruntime", "onnxscript")
CHECKED_IMAGES = 256
TOLERANCE = 1e-3  # of a logit: far below what changes a probability's second digit
TERMS = {  # of ImageNet weights, by the library that publishes them
    "torchvision": "torchvision's weights of {} (code under BSD 3-Clause; its README adds that pretrained models may "
    "carry terms derived from their data set).",
    "timm": "timm's weights of {} (code under Apache 2.0; its README leaves open what ImageNet's terms mean for "
    "weights, and those of some networks have terms of their own).",
}
IMAGENET = (
    "ImageNet is given out for non-commercial research and education only. Hence `license: other`: check that your use "
    "is allowed."
)
OWN_FILE = "a file of the user's own (`{}` in the cache): its terms apply."


class ExportError(InputError):
    """The network cannot be exported here; the message names the cause and the remedy."""


def export_model(path: Path, out: Path | None = None) -> list[Path]:
    """Write model.safetensors, model.onnx and README.md, the model card; returns their paths.

    `path` is a finished sweep's folder, whose best network `load_model` chooses, or a finished trial's; `out` is
    <sweep>/analysis/export/<trial> unless named. No file appears unless onnxruntime's logits agree with PyTorch's on
    real test images at two batch sizes, and PyTorch's with the recorded predictions.
    Raises ResultsError and ExportError.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ExportError(f"--export needs {', '.join(missing)}, not installed: {program().install('export')}")
    folder, traces = read_trials(path)
    if unfinished := [trace.spec.name for trace in traces if trace.summary is None]:
        raise ExportError(
            f"{path}: {', '.join(unfinished)} not finished, so the best network is not known yet: "
            "finish the sweep (the same command resumes), or name a finished trial's folder"
        )
    model, unproven = load_compared(path)
    cached = _cached(model.trial.data)
    if unproven:  # perhaps for want of the images
        model, unproven = load_compared(path)
    if unproven:
        raise ExportError(f"{path}: nothing shows that these are the weights that were tested: {unproven}: not written")
    out = out or folder.path / "analysis" / "export" / model.trial.name
    try:
        images = load_splits(cached, model.trial.data).test.images[:CHECKED_IMAGES]
        return _write(model, folder, len(traces), images, out)
    except OSError as error:
        raise ExportError(f"{out}: cannot be written to ({error}); name another folder with --out DIR") from None


def _cached(data: Data) -> Path:
    try:
        return fetch_data(data)
    except AssetError as error:
        raise ExportError(f"--export checks its files on real test images: {error}") from None


def _write(model: TrainedModel, folder: SweepFolder, chosen_among: int, images: Tensor, out: Path) -> list[Path]:
    """Write elsewhere, check, and only then write into `out`."""
    place = Beneath.of(out, folder.path)
    make_folder(place)
    with TemporaryDirectory() as beside:
        onnx, weights, card = (Path(beside, name) for name in ("model.onnx", "model.safetensors", "README.md"))
        write_onnx(model, images, onnx)
        checked = len(images), largest_difference(model, onnx, images)
        metadata = {"format": "pt", "model": json.dumps(model.trial.model.model_dump(mode="json"))}
        tensors = {name: weight.contiguous() for name, weight in model.network.state_dict().items()}
        weights.write_bytes(save(tensors, metadata))
        card.write_text(model_card(model, folder, checked, chosen_among), encoding="utf-8")
        for file in (weights, onnx, card):
            write_bytes(place / file.name, file.read_bytes())
    return [out / file.name for file in (weights, onnx, card)]


def write_onnx(model: TrainedModel, images: Tensor, file: Path) -> None:
    """One file; its input `images` and output `logits` have any number of rows."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            model.network,
            (images[:2],),
            file,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def largest_difference(model: TrainedModel, file: Path, images: Tensor) -> float:
    """The largest difference between onnxruntime's and PyTorch's logits, for all images at once and for one alone.

    Raises ExportError where that is more than TOLERANCE, or the ONNX file does not run.
    """
    import onnxruntime

    apart = []
    for batch in (images, images[:1]):
        try:
            session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            (logits,) = session.run(["logits"], {"images": batch.numpy()})
        except Exception as error:  # onnxruntime's errors have no common type
            raise ExportError(f"the ONNX file does not run in onnxruntime: {error}") from None
        with torch.inference_mode():
            apart.append((model.network(batch) - torch.from_numpy(logits)).abs().max())
    largest = torch.stack(apart).max().item()  # NaN where one is: Python's max() would pass over it
    if not largest <= TOLERANCE:
        raise ExportError(
            f"onnxruntime's logits differ from PyTorch's by {largest:.2g}, more than {TOLERANCE}: not written"
        )
    return largest


def model_card(model: TrainedModel, folder: SweepFolder, checked: tuple[int, float], chosen_among: int) -> str:
    """The card in Markdown, with its numbers from the sweep's files.

    `checked` is how many images ONNX was checked on and how far its logits were apart at most.
    """
    results = read_results(folder.path)
    arm = results.finished[results.finished["arm"] == model.trial.arm]
    tested, planned = arm_of(arm, read_predictions(results)), int((results.trials["arm"] == model.trial.arm).sum())
    jinja = Environment(  # noqa: S701 - Markdown
        loader=PackageLoader("raycifar.analysis.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    mean, std = model.network.pixels
    values: dict[str, Any] = {
        "trial": model.trial,
        "summary": _in_markdown(model.summary),
        "classes": [markdown(name) for name in model.classes],
        "arm": sample(arm["test_accuracy"]),
        "reached": markdown(reached(model.trial.arm, tested, estimate(tested), planned)),
        "chosen_among": chosen_among,
        "record": _in_markdown(results.record),
        "recipe": json.dumps(_recipe(model.trial), indent=1),
        "mean": mean,
        "std": std,
        "facts": model.facts.model_copy(
            update={key: markdown(getattr(model.facts, key)) for key in ("title", "licence", "origin")}
        ),
        "public_name": _public_name(model.trial.data),
        "weights": _weights_in_words(model.trial.model, results.record),
        "network": title_of(model.trial.model.called),
        "checked": checked[0],
        "apart": checked[1],
    }
    return jinja.get_template("model_card.md.j2").render(values)


def _recipe(trial: TrialSpec) -> dict[str, Any]:
    """Its settings, without what names other images than its own, and where the user's lie on this machine."""
    data = trial.data
    settings = trial.model_dump(mode="json", exclude={"name": True, "arm": True, "data": {"name", "source", "path"}})
    named = {"path": data.own_name} if data.path else {"source": data.source} if data.source else {"name": data.name}
    return settings | {"data": named | settings["data"]}


def _public_name(data: Data) -> str:
    """What a public data set is called where models are shared; "" for images of the user's own."""
    return data.name.rpartition("/")[2].lower() if data.is_built_in or data.is_published else ""


def _weights_in_words(model: Model, record: SweepRecord) -> str:
    """Where the network's first weights came from, and on which terms, in sentences of Markdown."""
    if model.source:
        return "The network was made by the user's own function, which may have loaded weights: their terms apply."
    if model.weights != "imagenet":
        return "It contains no pretrained weights."
    file = record.weights if model.name == "vgg16" else record.pretrained.get(model.name, "")
    terms = TERMS[model.name.partition("/")[0] if "/" in model.name else "torchvision"].format(title_of(model.name))
    started = terms if file == f"{model.name.replace('/', '-')}.safetensors" else OWN_FILE.format(markdown(file))
    return f"The trunk started from {started} {IMAGENET}"


def _in_markdown(record: TrialSummary | SweepRecord) -> dict[str, Any]:
    """The record's fields, every text of theirs as it may stand in Markdown."""
    return {name: filtered(value, markdown) for name, value in asdict(record).items()}
