"""The reference report's numbers, as data: what it states, and what is recomputed from it."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from raycifar.analysis.wording import listed
from raycifar.config.sweep import SweepSpec, TrialSpec


@dataclass(frozen=True, slots=True)
class Reference:
    """`runs` have the keys of TRIAL_COLUMNS where the report states a value, and `stated_seconds`."""

    runs: list[dict[str, Any]]
    protocol: dict[str, Any]
    recomputed: dict[str, dict[str, float]]
    footnotes: dict[str, str]

    @staticmethod
    def is_of(spec: SweepSpec) -> bool:
        """Whether the report trained what a sweep trains: VGG16 on CIFAR-10."""
        return all(
            (trial.data.facts.name, trial.model.called) == ("cifar10", "vgg16") and trial.data.is_built_in
            for trial in spec.trials
        )

    def values(self, arm: str, column: str) -> list[float]:
        """What the report states for an arm, one value a run."""
        return [float(run[column]) for run in self.runs if run["arm"] == arm]

    def differences(self, spec: SweepSpec) -> list[str]:
        """Why a sweep's numbers do not compare with the report's: a line for each reason, with its arms."""
        arms_of = dict[str, list[str]]()
        for arm, trial in {trial.arm: trial for trial in spec.trials}.items():
            for reason in self._differences(trial):
                arms_of.setdefault(reason, []).append(arm)
        return [f"{reason} ({listed(arms)})" for reason, arms in arms_of.items()]

    def _differences(self, trial: TrialSpec) -> list[str]:
        epochs, batch = self.protocol["epochs"][kind(trial)], self.protocol["batch_size"]
        train, _, test = trial.data.images
        reasons = []
        if trial.data.train_images:
            reasons.append(f"{train:,} training images instead of {self.protocol['train_images']:,}")
        if test < (all_images := trial.data.facts.test_images):
            reasons.append(f"{test:,} test images instead of {all_images:,}")
        if trial.epochs != epochs:
            reasons.append(f"{trial.epochs} epochs instead of {epochs}")
        if trial.batch_size != batch:
            reasons.append(f"batches of {trial.batch_size} instead of {batch}")
        if trial.model.train != "all":
            reasons.append(f"trained only from {trial.model.train} on instead of all layers")
        return reasons


def kind(trial: TrialSpec) -> str:
    """The report's arm that a trial corresponds to, by the weights that it starts from."""
    return "transfer" if trial.model.weights == "imagenet" else "scratch"


def load_reference() -> Reference:
    """Read reference.toml, which names each number's source."""
    data = tomllib.loads(files("raycifar.analysis").joinpath("reference.toml").read_text(encoding="utf-8"))
    for run in data["runs"]:
        run["train_test_gap"] = run["train_accuracy"] - run["test_accuracy"]
    return Reference(data["runs"], data["protocol"], data["recomputed"], data["footnotes"])
