"""What is counted over simulated sweeps, as `coverage` prints it."""

from dataclasses import dataclass

from raycifar.analysis.statistics.formulas import proportion_interval


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of so many."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of

    @property
    def interval(self) -> tuple[float, float]:
        return proportion_interval(self.share, self.of)

    def lies_outside(self, aim: tuple[float, float]) -> bool:
        """Whether its whole interval does."""
        low, high = self.interval
        return low > aim[1] or high < aim[0]

    def __str__(self) -> str:
        low, high = (max(0.0, 100 * end) for end in self.interval)
        return f"{100 * self.share:.1f} ({low:.1f} to {high:.1f})"


@dataclass(frozen=True, slots=True)
class Flattery:
    """By how much, in points and on average, the best arm looks better than it is, and what the answer says of it."""

    said: float
    true: float

    def __str__(self) -> str:
        return f"{self.said:.2f} / {self.true:.2f}"
