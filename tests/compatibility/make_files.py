"""Writes the files of this folder with the modules of commit 8c4bd43, the last before the restructure (README.md).

    git worktree add ../before 8c4bd43
    PYTHONPATH=../before python tests/compatibility/make_files.py STORAGE

STORAGE holds the folders `finished` and `search` that the two commands in README.md have made.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import raycifar.sweep
import raycifar.trial
import torch
from raycifar.assets import fetch_vgg16
from raycifar.checkpoints import load_checkpoint, newest_checkpoint
from raycifar.events import JsonLines
from raycifar.records import SweepFolder
from raycifar.results import read_results
from raycifar.search_spec import load_search
from raycifar.spec import SweepSpec, TrialSpec
from raycifar.sweep import Options
from raycifar.sweep_file import load_sweep
from raycifar.trial import Assets, Place, network, set_up_torch
from recording import cpu_kind, digest, layout, norms, without_times
from rich.console import Console
from small_network import SmallNetwork

from raycifar.data import load_cifar10
from raycifar.training import TrainState, fit

HERE = Path(__file__).parent
BEFORE = Path(raycifar.__file__).parents[1]
SAMPLE = HERE.parent / "samples" / "cifar10_sample.safetensors"
QUICK = HERE.parent / "samples" / "quick"
COLUMNS = "100"  # of the terminal in expected/messages.json
KEPT = ("*.json", "*.lock", "*.npz", "*.toml", "*.csv", "*/*.json", "*/*.npz", "*/checkpoint_*/*")
OF_RAY = ("basic-variant-state", "experiment_state", "search_gen_state", "params.json", "checkpoint_manager")
TRIAL = {"name": "tiny", "arm": "tiny", "seed": 1, "epochs": 2, "batch_size": 16, "model": {"weights": "random"}}
# Each is TRIAL with these settings: every setting once beside its default, and a few together.
SETTINGS: list[dict[str, Any]] = [
    {},
    {"seed": 2},
    {"epochs": 7},
    {"batch_size": 512},
    {"label_smoothing": 0.1},
    {"drop_last": True},
    {"precision": "fp32"},
    {"precision": "bf16"},
    {"deterministic": True},
    *({"model": {"weights": "random", **change}} for change in (
        {"batch_norm": True}, {"hidden": [512]}, {"hidden": [4096, 4096], "dropout": 0.5},
        {"train": "head"}, {"train": "block5"}, {"upsample": 2}, {"upsample": 7},
    )),
    {"model": {"weights": "imagenet"}},
    {"model": {"weights": "imagenet", "batch_norm": True, "hidden": [128], "train": "block3"}},
    *({"data": change} for change in (
        {"validation": "train"}, {"holdout_images": 1000}, {"train_images": 500}, {"test_images": 100},
    )),
    *({"augmentation": change} for change in (
        {"crop": 4}, {"flip": "random"}, {"flip": "alternating"}, {"cutout": 12}, {"policy": "trivial"},
        {"mixup": 0.4}, {"cutmix": 1.0}, {"cutmix": 1.0, "mix_probability": 0.5},
    )),
    *({"optimizer": change} for change in (
        {"name": "adam"}, {"name": "adamw", "lr": 1e-3}, {"lr": 0.1}, {"momentum": 0.5}, {"nesterov": False},
        {"weight_decay": 5e-4}, {"head_decay_ratio": 2.0}, {"bias_decay_ratio": 1.0}, {"head_lr_ratio": 5.0},
        {"layer_decay": 0.7}, {"clip_norm": 1.0}, {"muon_lr": 0.02},
    )),
    {"optimizer": {"name": "muon"}, "model": {"weights": "random", "batch_norm": True}},
    *({"schedule": change} for change in (
        {"name": "cosine"}, {"name": "linear", "warmup_epochs": 0.5}, {"name": "plateau", "patience": 5},
        {"final_ratio": 0.1}, {"monitor": "val_accuracy"}, {"factor": 0.5}, {"min_lr": 1e-5},
    )),
    *({"early_stopping": change} for change in (
        {"patience": 3}, {"monitor": "val_accuracy"}, {"min_delta": 0.01},
    )),
    *({"averaging": change} for change in (
        {"ema_decay": 0.999}, {"ema_decay": 0.999, "ema_recompute_batch_norm": True}, {"swa_epochs": 2},
    )),
]  # fmt: skip
# Of VGG16: what its checkpoints hold.
LAYOUTS: dict[str, dict[str, Any]] = {
    "sgd": {"model": {"weights": "random"}},
    "muon, averaged": {
        "model": {"weights": "random", "batch_norm": True},
        "optimizer": {"name": "muon"},
        "averaging": {"ema_decay": 0.9},
    },
    "adamw, two layers in the head": {
        "model": {"weights": "random", "hidden": [64], "dropout": 0.5},
        "optimizer": {"name": "adamw", "layer_decay": 0.7},
    },
    "the head alone": {"model": {"weights": "random", "batch_norm": True, "train": "head"}},
}
STEPS: dict[str, dict[str, Any]] = {
    "scratch": {
        "model": {"weights": "random", "batch_norm": True},
        "augmentation": {"crop": 4, "flip": "alternating"},
        "optimizer": {"lr": 1e-3, "weight_decay": 5e-4},
    },
    "transfer": {
        "model": {"weights": "imagenet", "batch_norm": True},
        "augmentation": {"cutout": 8, "flip": "random"},
        "optimizer": {"name": "muon", "weight_decay": 5e-4},
        "averaging": {"ema_decay": 0.9},
    },
}
CALLS: dict[str, list[str]] = {
    "a finished sweep": ["finished.toml"],
    "a finished sweep, one trial of it": ["finished.toml", "--only", "scratch"],
    "a finished sweep with other settings": ["finished.toml", "--set", "epochs=3"],
    "a finished sweep without one of its trials": ["interrupted.toml", "--name", "finished"],
    "an interrupted sweep with other settings": ["interrupted.toml", "--set", "plateau.optimizer.lr=0.01"],
    "an ended search": ["search.toml"],
    "an ended search around another trial": ["search.toml", "--set", "optimizer.momentum=0.5"],
    "an ended search in another space": ["search.toml", "--set", "search.space.optimizer.lr={uniform=[1e-4, 1e-1]}"],
}


class Interrupt(JsonLines):
    """Ctrl-C after a trial's first epoch."""

    def epoch(self, trial: str, record: object) -> None:
        raise KeyboardInterrupt


def write(name: str, data: Any) -> None:
    path = HERE / "expected" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


def keep(source: Path, target: Path) -> None:
    """What raycifar reads of a folder, but for VGG16's weights and checkpoints.

    Paths of the machine become /results and /home.
    """
    shutil.rmtree(target, ignore_errors=True)
    for path in (path for pattern in KEPT for path in source.glob(pattern)):
        if path.name.startswith(OF_RAY) or path.stat().st_size > 1e6 or "checkpoint_00000" in str(path.parent):
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        for place, stands_for_it in ((source.parent, b"/results"), (Path.home(), b"/home")):
            content = content.replace(str(place).encode() + b"/", stands_for_it + b"/")
        copy.write_bytes(content)


def interrupt(folder: Path) -> None:
    """A sweep whose trials were each interrupted after an epoch."""
    sweep = load_sweep(HERE / "interrupted.toml")
    options = {"local": True, "gpus": 0, "source": "interrupted.toml", "events": Interrupt(io.StringIO())}
    for trial in sweep.trials:
        sys.argv = ["run_sweep.py", "interrupted.toml", "--local", "--gpus=0", f"--only={trial.name}"]
        try:
            raycifar.sweep.run_sweep(sweep, folder, Options(**options, only=(trial.name,)), Console(quiet=True))
        except KeyboardInterrupt:
            continue
        raise AssertionError("it was not interrupted")
    for events in folder.glob("*/events.*"):
        events.unlink()


def go_on(folder: Path) -> dict[str, Any]:
    """What the interrupted trials become."""
    sweep = load_sweep(HERE / "interrupted.toml")
    assert raycifar.sweep.run_sweep(sweep, folder, Options(local=True, gpus=0), Console(quiet=True))
    trials = {}
    for trial in (SweepFolder(folder).trial(trial.name) for trial in sweep.trials):
        summary = trial.summary()
        assert summary is not None
        checkpoint = newest_checkpoint(trial.path)
        assert checkpoint is not None
        state = load_checkpoint(checkpoint)[0]
        trials[trial.path.name] = {
            "epochs": [without_times(asdict(record)) for record in trial.history().epochs],
            "summary": without_times(asdict(summary)),
            "norms": norms(state["best"]["best_weights"]),
            "digest": digest(state),
        }
    return {"cpu": cpu_kind(), "trials": trials}


def figures(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    frames = {"epochs": results.epochs, "trials": results.trials, "sessions": results.sessions}
    return {name: json.loads(frame.to_json(orient="records", double_precision=15)) for name, frame in frames.items()}


def trained(settings: dict[str, Any], steps: int) -> tuple[TrainState, list[dict[str, Any]]]:
    """A real VGG16 after an epoch of so few steps."""
    tiny = {"epochs": 1, "batch_size": 10, "precision": "fp32"}
    data = {"train_images": 10 * steps, "holdout_images": 20, "test_images": 20}
    spec = TrialSpec.model_validate(TRIAL | tiny | {"data": data} | settings)
    set_up_torch(spec, Place("cpu", 1, "here:cpu"))
    data = load_cifar10(SAMPLE, spec.data)
    imagenet = fetch_vgg16(None) if spec.model.weights == "imagenet" else None
    state = TrainState(network(spec, Assets(SAMPLE, imagenet), data.train), spec)
    return state, [without_times(asdict(record)) for record in fit(state, data.train, data.val, spec)]


def three_steps(settings: dict[str, Any]) -> dict[str, Any]:
    state, records = trained(settings, steps=3)
    weights = state.evaluated.state_dict()
    return {"settings": settings, "epochs": records, "norms": norms(weights), "digest": digest(state.state_dict())}


def messages(storage: Path) -> Iterator[dict[str, Any]]:
    for title, (file, *options) in CALLS.items():
        command = [sys.executable, str(BEFORE / "run_sweep.py"), str(HERE / file), "--storage", str(storage), *options]
        environment = os.environ | {"COLUMNS": COLUMNS, "PYTHONPATH": str(BEFORE)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        printed, errors = (text.replace(str(storage), "STORAGE") for text in (done.stdout, done.stderr))
        yield {"title": title, "call": [file, *options], "status": done.returncode, "out": printed, "err": errors}


def fingerprints() -> dict[str, Any]:
    files: dict[str, Any] = {}
    for path in sorted((BEFORE / "sweeps").glob("*.toml")):
        search = load_search(path)
        sweep = None if search else load_sweep(path)
        files[path.name] = search.asks if search else {trial.name: trial.fingerprint() for trial in sweep.trials}
    specs = [(change, TrialSpec.model_validate(TRIAL | change)) for change in SETTINGS]
    whole = SweepSpec.model_validate({"name": "whole", "trials": [TRIAL, TRIAL | {"name": "other", "arm": "other"}]})
    varied = [[change, spec.fingerprint()] for change, spec in specs]
    return {"files": files, "base": TRIAL, "settings": varied, "sweep": whole.fingerprint()}


def main(storage: Path) -> None:
    torch.set_num_threads(1)
    raycifar.sweep.cpu_count = lambda: 1
    raycifar.sweep.fetch_assets = lambda *_: Assets(SAMPLE, None)
    build = raycifar.trial.build_vgg16
    raycifar.trial.build_vgg16 = lambda *_: SmallNetwork()
    for name in ("finished", "search"):
        keep(storage / name, HERE / name)
    shutil.rmtree(HERE / "interrupted", ignore_errors=True)
    interrupt(HERE / "interrupted")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / "interrupted", Path(folder) / "interrupted")
        write("continued", go_on(Path(folder) / "interrupted"))
    raycifar.trial.build_vgg16 = build
    folders = {"finished": HERE / "finished", "interrupted": HERE / "interrupted", "quick": QUICK}
    write("figures", {name: figures(path) for name, path in folders.items()})
    with tempfile.TemporaryDirectory() as folder:
        for name in ("finished", "interrupted", "search"):
            shutil.copytree(HERE / name, Path(folder) / name)
        write("messages", {"columns": COLUMNS, "calls": list(messages(Path(folder)))})
    write("fingerprints", fingerprints())
    states = {name: trained(settings, steps=1)[0].state_dict() for name, settings in LAYOUTS.items()}
    write("layouts", {name: {"settings": LAYOUTS[name], "state": layout(state)} for name, state in states.items()})
    write("three_steps", {"cpu": cpu_kind(), "cases": {name: three_steps(case) for name, case in STEPS.items()}})


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
