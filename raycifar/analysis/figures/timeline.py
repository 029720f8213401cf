"""DataFrame -> Figure: a timeline of trials over devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from raycifar.analysis.device_use import covered, spans_by_device
from raycifar.analysis.figures.style import (
    GREY,
    OTHERS,
    PALETTE,
    Drawing,
    canvas,
    ink,
    legend,
    mark,
    shorten,
    time_unit,
)
from raycifar.analysis.results import leaks
from raycifar.analysis.trial_state import Interval

MOST_LANES = 40
MOST_BARS = 120  # with names and start-up
DESCRIBED = 20  # bars in the text for screen readers
CHARACTER = 4.9 / 360  # roughly a character's share of the axes' width: decides whether a label fits its bar
STARTUP: dict[str, Any] = {"facecolor": "#DDDDDD", "hatch": "////"}
EDGES: dict[str, Any] = {"height": 0.7, "edgecolor": "white", "linewidth": 0.8}


@dataclass(frozen=True, slots=True)
class _Bar:
    """A session on one device, in seconds that the sweep has run."""

    trial: str
    arm: str
    colour: str
    device: str
    start: float
    training: float
    end: float


def timeline(sessions: pd.DataFrame, arms: Sequence[str], active: Sequence[Interval]) -> Drawing:
    """Which trial ran where and when. Pauses between calls of run_sweep.py are cut out and marked."""
    bars = _bars(sessions, arms, active)
    every_lane = _lanes(bars)
    lanes = every_lane[:MOST_LANES]
    leak = leaks(sessions)
    figure, axes = canvas("Timeline: trials over devices", leak, min(1.9 + 0.36 * len(lanes), 18))
    total = max([bar.end for bar in bars] + [sum(end - start for start, end in active)])
    unit, name = time_unit(total)
    for y, (_, lane) in enumerate(lanes):
        if len(bars) > MOST_BARS:
            _merged(axes, lane, y, unit)
        else:
            _lane(axes, lane, (y, unit), total)
    _pauses(axes, active, unit, len(lanes))
    axes.set_yticks(range(len(lanes)), [label for label, _ in lanes])
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_xlim(0, total * 1.02 / unit)
    axes.set_xlabel(f"time that the sweep has run ({name})")
    axes.grid(visible=False, axis="y")
    legend(figure, axes, _key(bars))
    spans = "; ".join(
        f"{bar.trial} on {bar.device} from {bar.start:,.0f} to {bar.end:,.0f} s" for bar in bars[:DESCRIBED]
    )
    caption = (
        f"{_held(sessions, active)}Empty stretches are idle devices. A trial in several pieces was interrupted and "
        f"resumed{mark(leak)}."
    )
    if len(every_lane) > MOST_LANES:
        caption = f"The first {MOST_LANES} of {len(every_lane):,} lanes. {caption}"
    return Drawing("timeline", "Timeline", caption, f"Trials over devices: {spans}.", figure)


def _key(bars: Sequence[_Bar]) -> list[Patch]:
    """The arms' colours; start-up only where it is drawn apart."""
    arms = dict.fromkeys((bar.arm, bar.colour) for bar in bars)
    startup = [Patch(label="start-up", **STARTUP)] if len(bars) <= MOST_BARS else []
    return [*(Patch(color=colour, label=shorten(arm)) for arm, colour in arms), *startup]


def _lane(axes: Axes, lane: Sequence[_Bar], at: tuple[int, float], total: float) -> None:
    """The bars of a lane, with their start-up and the trials' names; `at`: its place, and the seconds of a unit."""
    y, unit = at
    before = [0.0, *(bar.end for bar in lane)]
    after = [*(bar.start for bar in lane[1:]), total * 1.02]
    for bar, start, limit in zip(lane, before, after, strict=False):
        axes.barh(y, (bar.end - bar.training) / unit, left=bar.training / unit, color=bar.colour, **EDGES)
        axes.barh(y, (bar.training - bar.start) / unit, left=bar.start / unit, **STARTUP, **EDGES)
        rooms = (bar.start - start, limit - bar.end)
        _label(axes, bar, at, rooms, per_character=CHARACTER * total)


def _held(sessions: pd.DataFrame, active: Sequence[Interval]) -> str:
    """The share of the time in which the devices held a trial."""
    devices, total = spans_by_device(sessions), sum(end - start for start, end in active)
    if not devices or not total:
        return ""
    share = sum(covered(spans, active) for spans in devices.values()) / (len(devices) * total)
    which = f"On average the {len(devices)} devices" if len(devices) > 1 else "The one device"
    return f"{which} held a trial for {100 * share:.0f} % of the time. "


def _merged(axes: Axes, lane: Sequence[_Bar], y: int, unit: float) -> None:
    """A lane of many sessions: one collection for each colour, start-up included, without names."""
    for colour in dict.fromkeys(bar.colour for bar in lane):
        spans = [(bar.start / unit, (bar.end - bar.start) / unit) for bar in lane if bar.colour == colour]
        axes.broken_barh(spans, (y - EDGES["height"] / 2, EDGES["height"]), facecolors=colour)


def _label(axes: Axes, bar: _Bar, at: tuple[int, float], rooms: tuple[float, float], *, per_character: float) -> None:
    """The trial's name in its bar, or right or left of it if the `rooms` in seconds there allow, or nowhere."""
    (y, unit), (left, right), name = at, rooms, shorten(bar.trial, 24)
    needs = (len(name) + 2) * per_character
    if bar.end - bar.training > needs:
        middle = (bar.training + bar.end) / 2 / unit
        axes.text(middle, y, name, ha="center", va="center", fontsize=8, color=ink(bar.colour))
    elif right > needs:
        axes.annotate(name, (bar.end / unit, y), (4, 0), textcoords="offset points", va="center", fontsize=8)
    elif left > 2 * needs:  # the neighbour's name may stand there too
        axes.annotate(
            name, (bar.start / unit, y), (-4, 0), textcoords="offset points", va="center", ha="right", fontsize=8
        )


def _bars(sessions: pd.DataFrame, arms: Sequence[str], active: Sequence[Interval]) -> list[_Bar]:
    clock = _clock(active, float(sessions["started_at"].min()))
    several = len(set(sessions["host"])) > 1
    return [
        _Bar(
            trial=str(row["trial"]),
            arm=str(row["arm"]) if row["arm"] in arms else OTHERS,
            colour=PALETTE[arms.index(str(row["arm"])) % len(PALETTE)] if row["arm"] in arms else GREY,
            device=_device(device, str(row["device_kind"]), several),
            start=clock(row["started_at"]),
            training=min(clock(row["started_at"] + row["startup_seconds"]), clock(row["ended_at"])),
            end=clock(row["ended_at"]),
        )
        for _, row in sessions.sort_values("started_at", kind="stable").iterrows()
        for device in dict.fromkeys(row["devices"])
    ]


def _clock(active: Sequence[Interval], earliest: float) -> Callable[[float], float]:
    """Unix time -> seconds that the sweep had run by then."""
    if not active:
        return lambda at: at - earliest

    def ran(at: float) -> float:
        within = sum(min(at, end) - start for start, end in active if start < at)
        return within + max(0.0, at - active[-1][1])

    return ran


def _device(device: str, kind: str, several_hosts: bool) -> str:
    host, _, place = device.rpartition(":")
    name = f"GPU {place}" if kind == "cuda" else "CPU"
    return f"{shorten(host, 16)} {name}" if several_hosts else name


def _lanes(bars: Sequence[_Bar]) -> list[tuple[str, list[_Bar]]]:
    """A lane for each device, and more where its trials overlap: each bar goes to the first lane that is free."""
    devices: dict[str, list[list[_Bar]]] = {}
    for bar in bars:
        rows = devices.setdefault(bar.device, [])
        free = next((row for row in rows if row[-1].end <= bar.start + 1e-6), None)
        if free is None:
            rows.append([bar])
        else:
            free.append(bar)
    return [
        (f"{device} ({i})" if len(rows) > 1 else device, row)
        for device, rows in sorted(devices.items(), key=lambda item: (len(item[0]), item[0]))
        for i, row in enumerate(rows, 1)
    ]


def _pauses(axes: Axes, active: Sequence[Interval], unit: float, lanes: int) -> None:
    ran = 0.0
    for start, end in active[:-1]:
        ran += end - start
        axes.axvline(ran / unit, color="black", linestyle="--", linewidth=1)
    if len(active) > 1:
        axes.plot([], [], color="black", linestyle="--", linewidth=1, label="stopped, then resumed")
