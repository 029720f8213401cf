"""How the analysis writes numbers and lists: shared by tables, figures and report, so that each is written one way."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raycifar.analysis.statistics.formulas import Sample

NONE = "–"
MINUS = "\N{MINUS SIGN}"
CUT = "\N{DAGGER}"  # at the end of an interval that is cut
CUT_NOTE = f"{CUT}: cut there; the interval by Student's t reaches further, to what such a number cannot be."
MOST_LISTED = 6
TRAINING_TIME = "training steps, validation, checkpointing and test, without start-up"


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of number is written. `digits` gives the format specification that suits a scaled value."""

    digits: Callable[[float], str]
    scale: float = 1.0

    def __call__(self, value: float, sign: str = "") -> str:
        """The text for people; with "+" as `sign`, positive values have one, too. NONE for what is no finite number."""
        if not is_number(value):
            return NONE
        scaled = self.scale * value
        return f"{scaled:{sign}{self.digits(scaled)}}".replace("-", MINUS)

    def plain(self, value: float) -> float | None:
        """The number in the unit that people read, for files; None for what is no finite number."""
        return self.scale * value if is_number(value) else None


percent = Format(lambda _: ".2f", scale=100.0)  # of a fraction; the sign % is in the heading
number = Format(lambda _: ".4f")
whole = Format(lambda _: ",.0f")
tenths = Format(lambda _: ",.1f")
seconds = Format(lambda value: ",.0f" if abs(value) >= 100 else ",.1f")
kilojoules = Format(lambda _: ",.1f", scale=0.001)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def probability(p: float) -> str:
    """A p-value: to three decimals, or four where it is small; below that its size says nothing more."""
    if p >= 0.001:
        return f"{p:.3f}"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def p_is(p: float) -> str:
    """ "p = 0.021", or "p < 0.0001"."""
    text = probability(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def signed(value: float, decimals: int) -> str:
    """With a plus, or a minus as wide as it."""
    return f"{value:+.{decimals}f}".replace("-", MINUS)


def between(low: float, high: float, show: Callable[..., str], sign: str = "") -> str:
    """A range, for example "93.06 to 93.62"."""
    return f"{show(low, sign)} to {show(high, sign)}"


def interval(values: Sample, show: Callable[..., str], sign: str = "") -> str:
    """The interval of the mean, its ends marked with CUT where they are cut, or why there is none."""
    if values.note:
        return values.note
    low, high = (CUT if cut else "" for cut in (values.is_cut_low, values.is_cut_high))
    return f"{show(values.low, sign)}{low} to {show(values.high, sign)}{high}"


def cut_span(low: float, high: float, bounds: tuple[float, float]) -> Sample:
    """The ends of an interval, cut at what such a number can be."""
    cut = low < bounds[0], high > bounds[1]
    return Sample(2, (low + high) / 2, math.nan, max(bounds[0], low), min(bounds[1], high), *cut)


def cut_at(low: bool, high: bool) -> str:
    """What a sentence says of an interval of percentages that is cut: ", cut at 100 %"; empty where it is not."""
    ends = [end for end, cut in (("0", low), ("100", high)) if cut]
    return f", cut at {' and '.join(ends)} %" if ends else ""


def n_of(counted: int, planned: int) -> str:
    """ "n = 3", or "n = 2 of 3" where some are missing: a mean without the slow ones looks better than it is."""
    return f"n = {counted}" if counted == planned else f"n = {counted} of {planned}"


def too_few(begun: int, trials: int) -> str:
    """In the place of an arm's mean over those of its trials that happened to be faster."""
    return f"not comparable: only {begun} of {trials} had finished an epoch"


def blended(arms: Sequence[str]) -> str:
    """Why the gaps of these arms are not ranked; empty where there are none."""
    if not arms:
        return ""
    verb, their = ("trains", "its") if len(arms) == 1 else ("train", "their")
    return (
        f"{listed(arms)} {verb} on images blended of two (Mixup, CutMix), which are harder than the test images: "
        f"{their} gap is not given"
    )


def epochs_of(count: float) -> str:
    """ "1 epoch", "15 epochs"."""
    return f"{count:.0f} epoch{'' if count == 1 else 's'}"


def listed(names: Iterable[str], most: int = MOST_LISTED) -> str:
    """Names in a sentence, each once; of many the first and how many more."""
    once = list(dict.fromkeys(names))
    more = f" and {len(once) - most} more" if len(once) > most else ""
    return ", ".join(once[:most]) + more


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers with their runs drawn together: "1 to 3, 7"."""
    runs = list[list[int]]()
    for value in sorted(numbers):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def points(value: float) -> str:
    """A difference of fractions in percentage points, without its sign."""
    amount = f"{abs(100 * value):.2f}"
    return f"{amount} percentage point{'' if amount == '1.00' else 's'}"


def is_level(value: float) -> bool:
    """Whether a difference is shown as 0.00 percentage points."""
    return round(abs(100 * value), 2) == 0


def above_or_below(value: float) -> str:
    """A difference in percentage points and its direction, to be followed by the thing compared with."""
    return "level with" if is_level(value) else f"{points(value)} {'above' if value >= 0 else 'below'}"
