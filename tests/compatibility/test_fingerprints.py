"""Fingerprints, by which a sweep's folder knows its settings: those of the version before the restructure."""

import pytest

from raycifar.config.sweep import SweepSpec, TrialSpec
from raycifar.config.sweep_file import load_sweep
from raycifar.search.spec import load_search
from tests.compatibility.files import expected
from tests.support.paths import SWEEPS

BEFORE = expected("fingerprints")


@pytest.mark.parametrize("name", BEFORE["files"])
def test_a_stock_sweep_file_asks_what_it_asked(name):
    """Where a sweep file is changed on purpose, results from before need another name: say so in LOG.md."""
    if search := load_search(SWEEPS / name):
        assert search.asks == BEFORE["files"][name]
    else:
        trials = load_sweep(SWEEPS / name).trials
        assert {trial.name: trial.fingerprint() for trial in trials} == BEFORE["files"][name]


def test_every_setting_gives_the_fingerprint_that_it_gave():
    found = [
        [change, TrialSpec.model_validate(BEFORE["base"] | change).fingerprint()] for change, _ in BEFORE["settings"]
    ]
    assert found == BEFORE["settings"]
    assert len({fingerprint for _, fingerprint in found}) == len(found)


def test_a_sweep_gives_the_fingerprint_that_it_gave():
    other = BEFORE["base"] | {"name": "other", "arm": "other"}
    sweep = SweepSpec.model_validate({"name": "whole", "trials": [BEFORE["base"], other]})
    assert sweep.fingerprint() == BEFORE["sweep"]
