"""How to run a sweep or a search: what a caller may choose that changes no number."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raycifar.tracking.json_lines import JsonLines
from raycifar.tracking.listener import Listener


@dataclass(frozen=True, slots=True)
class Options:
    """How to run a sweep; the defaults are the command line's."""

    gpus: int | None = None  # None: all there are; 0: CPUs
    trials_per_gpu: int | Literal["auto"] = 1  # "auto": measured before the sweep starts
    workers_per_trial: int = 1
    only: tuple[str, ...] = ()  # trials or arms; empty: all
    local: bool = False  # in this process, without Ray
    address: str | None = None  # of a Ray cluster; None: one of its own
    hang_seconds: float = 1800.0  # without a training step, before a worker is started again; not with --local
    fresh: bool = False  # move earlier results of this name aside
    data: Path | None = None
    weights: Path | None = None  # of the one network that starts from ImageNet weights
    weights_of: Mapping[str, Path] = field(default_factory=dict)  # the same by the network's name
    code: tuple[str, ...] = ()  # the user's modules that may run: names, or .py files beside the sweep file
    weights_as_they_are: bool = False  # also those that expect other pixels, or look untrained
    source: str = ""  # the sweep file's name, for the record
    command: tuple[str, ...] = ()  # the words of the command line, for the record; empty: a call from Python
    log: tuple[str, ...] = ()  # experiment trackers beside TensorBoard: "mlflow", "wandb"
    verbose: bool = False  # show what Ray and the workers log; not with --local
    events: JsonLines | None = None

    @property
    def called(self) -> tuple[str, ...]:
        """The words of the command line; a single one is Python code."""
        return self.command or (f"raycifar.run_sweep({repr(self.source) if self.source else 'SweepSpec(...)'})",)

    @property
    def names_weights(self) -> bool:
        """Whether a file of ImageNet weights is named."""
        return self.weights is not None or bool(self.weights_of)

    @property
    def known_sharing(self) -> int:
        """Trials on a GPU, as far as it is known before anything has been measured."""
        return 1 if self.trials_per_gpu == "auto" else self.trials_per_gpu

    @property
    def listeners(self) -> list[Listener]:
        """Those that the options bring along."""
        return [self.events] if self.events else []
