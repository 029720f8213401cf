"""raycifar.analysis.device_use: intervals in which devices held a trial."""

from raycifar.analysis.device_use import covered


def test_covered_counts_overlaps_once_and_pauses_not_at_all() -> None:
    assert covered([(0, 4), (2, 6), (2, 3)], [(0, 10)]) == 6
    assert covered([(0, 10)], [(1, 3), (5, 6)]) == 3
    assert covered([(20, 30)], [(0, 10)]) == covered([], [(0, 10)]) == 0
