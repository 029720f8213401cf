"""How every figure looks: palette, titles, legends, units and files. Figures are objects; no global state of pyplot."""

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from raycifar.analysis.results import LEAK
from raycifar.analysis.statistics.contrasts import Estimate
from raycifar.storage.beneath import Where, beneath, make_folder, write_bytes

# Okabe and Ito (2008), told apart with any colour vision; its yellow is left out, too pale for a line on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, "#000000")
MARKERS = "os^DvP*"
GREY = "#6B6B6B"
OTHERS = "other arms"  # those that are not shown one by one
WIDTH = 6.4  # inches
ROW_CHARACTERS = 80  # of a legend, its symbols counted as characters
MARKED_EPOCHS = 30  # with more, markers would hide the line
DRAWN_REPEATS = 40  # with more in one plot, single lines say nothing
THIN = "thin line: 95 % interval with other test images and other seeds, dotted of a single network alone"

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "raycifar",  # the same figure gives the same file
    "figure.dpi": 100,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with the name of its files, its heading, what to see in it, and what a screen reader says of it."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    photographs: bool = False  # that must keep their colours on dark paper


def style() -> AbstractContextManager[None]:
    """The look of every figure, while it lasts; for drawing and for saving."""
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def canvas(title: str, leak: bool = False, height: float = 3.8) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; `height` in inches. A leak is marked below the title."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", pad=22 if leak else 8)
    if leak:
        axes.annotate(LEAK, (0, 1), (0, 6), "axes fraction", "offset points", color=VERMILLION, fontsize=9.5)
    return figure, axes


def legend(figure: Figure, axes: Axes, patches: Iterable[Patch] = ()) -> None:
    """Below the axes, where no data are: in one row if it fits, else in columns as wide as the longest name."""
    handles, labels = axes.get_legend_handles_labels()
    for patch in patches:
        handles.append(patch)
        labels.append(str(patch.get_label()))
    one_row = sum(len(label) + 7 for label in labels) <= ROW_CHARACTERS
    columns = len(labels) if one_row else max(1, ROW_CHARACTERS // (max(map(len, labels)) + 7))
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def with_other_images(
    axes: Axes, of: Iterable[Estimate], places: Iterable[float], colour: str, *, upright: bool = False
) -> None:
    """A thin line at each place: the interval of a share, in percent, as THIN says; none where it is not known."""
    for one, place in zip(of, places, strict=True):
        span = one.images if one.images.known else one.networks
        ends, level = [100 * max(0.0, span.low), 100 * min(1.0, span.high)], [place, place]
        if span.known:
            x, y = (level, ends) if upright else (ends, level)
            axes.plot(x, y, color=colour, linewidth=1, linestyle="-" if one.images.known else ":")


def mark(leak: bool) -> str:
    """What a caption says of a leak."""
    return f" — {LEAK}" if leak else ""


def epoch_axis(axes: Axes, epochs: int) -> None:
    """Whole epochs, and room around a single one."""
    margin = 0.5 if epochs < 3 else 0.02 * epochs
    axes.set_xlim(1 - margin, epochs + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def time_unit(seconds: float) -> tuple[float, str]:
    """How many seconds the unit has in which a duration reads well, and its name."""
    if seconds < 600:
        return 1.0, "s"
    return (60.0, "min") if seconds < 4 * 3600 else (3600.0, "h")


def in_words(seconds: float) -> str:
    """A duration as a label."""
    unit, name = time_unit(seconds)
    return f"{seconds / unit:,.{0 if unit == 1 and seconds >= 20 else 1}f} {name}"


def shorten(name: str, length: int = 28) -> str:
    """A long name without its middle: its end tells the repeats apart."""
    tail = length // 2
    return name if len(name) <= length else f"{name[: length - tail - 1]}…{name[-tail:]}"


def ink(colour: str) -> str:
    """Black or white, whichever reads better on the colour (WCAG's relative luminance)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "#FFFFFF"


def save(drawing: Drawing, folder: Where) -> tuple[Path, Path]:
    """Write <folder>/<name>.png and .svg, each beside and then renamed; returns their paths."""
    make_folder(beneath(folder))
    files = [beneath(folder) / f"{drawing.name}{suffix}" for suffix in (".png", ".svg")]
    with style():
        for file, metadata in zip(files, ({"Software": None}, {"Date": None}), strict=True):
            content = io.BytesIO()
            drawing.figure.savefig(content, format=file.path.suffix[1:], dpi=150, metadata=metadata)
            write_bytes(file, content.getbuffer())
            drawing.figure.set_layout_engine("none")  # the layout that the first file found; finding it is slow
    return files[0].path, files[1].path
