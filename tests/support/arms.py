"""A sweep's results with its arms compared, as the report's tables and sentences take them."""

from pathlib import Path

from raycifar.analysis.predictions import Predictions
from raycifar.analysis.results import Results, read_results
from raycifar.analysis.tested_arms import ComparedArms, compared_arms


def compared(of: Results | Path, predictions: Predictions | None = None) -> tuple[Results, ComparedArms]:
    """Without predictions, as far as those are not given."""
    results = read_results(of) if isinstance(of, Path) else of
    return results, compared_arms(results, predictions)
