import pytest

from tests.load.many_trials import Load, run


@pytest.mark.slow
def test_a_sweep_keeps_nothing_that_its_trials_should_let_go(tmp_path):
    load = run(16, tmp_path)
    assert (load.status, len(load.files)) == (0, 16)
    assert load.slope(load.memory_mb) < 20, (
        load.memory_mb
    )  # a look may fall between two trials; one's weights are 59 MB
    assert load.slope(load.handles) < 0.5
    assert max(load.processes) == 1
    assert len(set(load.files)) == 1


def test_growth_is_that_of_the_warm_part():
    assert Load().slope([0, 100, 10, 12, 14, 16, 18, 20]) == pytest.approx(2)
    assert Load().slope([500, 7, 7, 7, 7]) == pytest.approx(0, abs=1e-9)
