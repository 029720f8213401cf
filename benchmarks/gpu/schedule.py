"""Parts one after the other within a budget: what does not fit is skipped, what is done stays done."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.gpu.parts import Part
from benchmarks.gpu.processes import GRACE
from benchmarks.gpu.record import Outcome, Record

Clock = Callable[[], float]  # seconds
Measure = Callable[[Part, float], Outcome]  # within so many seconds
RESERVE = GRACE + 5  # seconds of the budget for ending a part, and for writing


def work(parts: Sequence[Part], record: Record, budget: float, clock: Clock, measure: Measure) -> None:
    """Measure the parts that are not done, in their order, those that failed before behind the others.

    A part begins only where its estimate fits into what is left, and gets all of that as its limit.
    """
    end = clock() + budget - RESERVE
    for part in sorted((part for part in parts if not record.is_done(part.name)), key=lambda p: record.tries(p.name)):
        left = end - clock()
        if part.seconds > left:
            print(f"{part.name}: skipped, needs {part.seconds:.0f} s, {max(0.0, left):.0f} s are left", flush=True)
            continue
        print(f"{part.name}: {part.question} About {part.seconds:.0f} s, at most {left:.0f} s", flush=True)
        outcome = replace(measure(part, left), tries=record.tries(part.name) + 1)
        record.add(part.name, outcome)
        print(f"{part.name}: {outcome.state} after {outcome.seconds:.1f} s", flush=True)
