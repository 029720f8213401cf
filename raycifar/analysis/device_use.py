"""How long each device held a trial, and for how much of the sweep's wall clock it held none."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from raycifar.analysis.results import Results, dicts
from raycifar.analysis.trial_state import Interval


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """One device, or all together: how many sessions it held, how many seconds, and its idle share (a fraction)."""

    device: str
    kind: str
    sessions: int
    busy_seconds: float
    idle_share: float  # NaN where no wall clock is on record


def device_uses(results: Results) -> list[DeviceUse]:
    """A line for each device that held a trial, by name; after several, one for all of them."""
    spans = spans_by_device(results.sessions)
    busy = {device: covered(spans[device], results.active) for device in spans}
    uses = [
        DeviceUse(*device, len(spans[device]), busy[device], idle_share(busy[device], results.wall_seconds))
        for device in sorted(spans)
    ]
    if len(uses) > 1:
        total, sessions = sum(busy.values()), sum(map(len, spans.values()))
        uses.append(DeviceUse("all", "", sessions, total, idle_share(total, len(spans) * results.wall_seconds)))
    return uses


def spans_by_device(sessions: pd.DataFrame) -> dict[tuple[str, str], list[Interval]]:
    """(place, kind) of every device -> when it held a trial."""
    spans = defaultdict[tuple[str, str], list[Interval]](list)
    for session in dicts(sessions):
        for device in dict.fromkeys(session["devices"]):
            spans[device, session["device"]].append((session["started_at"], session["ended_at"]))
    return spans


def covered(spans: Iterable[Interval], within: Sequence[Interval]) -> float:
    """Seconds of the disjoint intervals `within` that at least one of the `spans` covers."""
    pieces = sorted((max(a, start), min(b, end)) for a, b in spans for start, end in within if a < end and b > start)
    total, reached = 0.0, -math.inf
    for start, end in pieces:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def idle_share(busy_seconds: float, available_seconds: float) -> float:
    """NaN where nothing was available."""
    return max(0.0, 1 - busy_seconds / available_seconds) if available_seconds else math.nan
