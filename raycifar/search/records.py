"""What a search leaves on disk.

::

    <storage>/<name>/                 SearchFolder
        search.json                   the resolved search, where it came from; what was read
        invocations.json, sweep.lock  as a sweep's
        best.toml                     a sweep file of the best sample, once every sample has ended
        samples.csv                   then, too: how every sample ended, and its settings
        sample-0001/                  one folder a sample
            sample.json               the settings drawn for it; how it ended, once it has
            history.json              every finished epoch once
            error.json                only where it ended in an error

There is no summary and no prediction: a sample is never tested.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from raycifar.storage.beneath import make_folder, names_in
from raycifar.storage.files import RecordError, refuse_link, write_json
from raycifar.storage.folders import SweepFolder, TrialFolder, read_record
from raycifar.storage.records import SHARE, UNIX_SECONDS, JsonRecord
from raycifar.storage.written import SAMPLE

MOST_SAMPLES = 10_000
# How a sample ends. A failed one has no outcome: the same command runs it again.
FINISHED, STOPPED, DIVERGED, TOO_LARGE = "finished", "stopped", "diverged", "too large"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord(JsonRecord):
    """What `search.json` holds."""

    name: str
    spec: dict[str, Any]  # SearchSpec.model_validate() reads it
    asks: dict[str, Any]  # SearchSpec.asks: what another call must ask too
    source: str  # the sweep file, as it was named
    created_at: Annotated[float, UNIX_SECONDS]
    versions: dict[str, str]
    commit: str | None
    hardware: str
    weights: str = ""  # these five as a sweep's
    data: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    pretrained: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord(JsonRecord):
    """What `sample.json` holds: written before the sample runs, and again once it has ended."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)  # by dotted key
    outcome: str | None = None  # finished, stopped (by ASHA), diverged, too large; None: still to be run to its end
    epochs_run: int = 0
    best_epoch: int = 0
    best_val_accuracy: Annotated[float, SHARE] = 0.0  # the objective; 0 for settings that nobody could use


@dataclass(frozen=True, slots=True)
class SearchFolder:
    """The paths of one search, and their reading and writing."""

    path: Path

    @property
    def sweep(self) -> SweepFolder:
        """The same folder as a sweep's, for what both have: the lock and the calls."""
        return SweepFolder(self.path)

    @property
    def best(self) -> Path:
        return self.path / "best.toml"

    @property
    def table(self) -> Path:
        return self.path / "samples.csv"

    def trial(self, name: str) -> TrialFolder:
        return self.sweep.trial(name)

    def record(self) -> SearchRecord | None:
        return read_record(self.path / "search.json", SearchRecord)

    def write_record(self, record: SearchRecord) -> None:
        write_json(self.sweep.files / "search.json", record.to_json())

    def samples(self) -> list[SampleRecord]:
        """Those drawn so far, in the order of the draws. Raises RecordError, also for a link or a name not its own."""
        try:
            names = sorted(filter(SAMPLE.fullmatch, names_in(self.sweep.files)))
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}") from error
        if len(names) > MOST_SAMPLES:
            raise RecordError(f"{self.path}: {len(names):,} samples, a search has at most {MOST_SAMPLES:,}")
        return [sample for name in names if (sample := _sample(self.path / name))]

    def write_sample(self, sample: SampleRecord) -> None:
        folder = self.sweep.files / sample.name
        make_folder(folder)
        write_json(folder / "sample.json", sample.to_json())


def _sample(folder: Path) -> SampleRecord | None:
    """The record in a sample's folder: its name goes into paths, so it must be the folder's own."""
    refuse_link(folder)
    sample = read_record(folder / "sample.json", SampleRecord)
    if sample and sample.name != folder.name:
        raise RecordError(f"{folder / 'sample.json'}: names the sample {sample.name!r:.80}, not {folder.name!r}")
    return sample


def sample_name(number: int) -> str:
    """Of the draw with this number, from 1; names sort as the numbers do."""
    return f"sample-{number:04d}"


def ended(samples: list[SampleRecord]) -> list[SampleRecord]:
    """Those that are not run again."""
    return [sample for sample in samples if sample.outcome]


def ranked(samples: list[SampleRecord]) -> list[SampleRecord]:
    """Best first; a sample that ASHA stopped comes after all that ran as long as the trial does."""
    order = {FINISHED: 0, STOPPED: 1, DIVERGED: 2, TOO_LARGE: 2}
    return sorted(samples, key=lambda s: (order.get(s.outcome or "", 3), -s.best_val_accuracy, s.name))


def described(settings: Mapping[str, Any]) -> str:
    """The settings in one line, by the last part of their keys where that names one alone."""
    lasts = [key.rpartition(".")[2] for key in settings]
    names = [last if lasts.count(last) == 1 else key for key, last in zip(settings, lasts, strict=True)]
    return ", ".join(f"{name} {_shown(value)}" for name, value in zip(names, settings.values(), strict=True))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
