"""What several trials on one GPU give, measured by real processes on the CPU: there is no GPU here."""

import io
import json
from unittest.mock import Mock

import pytest

from raycifar.execution import gpu_sharing
from raycifar.execution.gpu_sharing import GAIN, Shared, SharingError, best_sharing, described, measure_sharing
from tests.support.paths import SAMPLE

GB = 10**9


def stand_in(monkeypatch, rates, memory=2 * GB, fit=99):
    """In the place of the processes: `rates` of 1, 2, ... trials side by side; more than `fit` fail."""

    def side_by_side(trials, *_):
        if trials > fit:
            raise SharingError("out of memory")
        return Shared(trials, rates[trials - 1], memory, 80 * GB)

    monkeypatch.setattr(gpu_sharing, "side_by_side", side_by_side)


@pytest.mark.parametrize(
    ("rates", "most", "measured", "best"),
    [
        ([100], 1, 1, 1),
        ([100, 100 * GAIN], 2, 2, 2),
        ([100, 100 * GAIN - 1], 4, 2, 1),
        ([100, 150, 151, 300], 4, 3, 2),
        ([100, 150, 200, 240, 250], 4, 4, 4),
        ([100, 80], 8, 2, 1),
    ],
)
def test_one_more_shares_the_gpu_as_long_as_it_brings_something(monkeypatch, make_trial, rates, most, measured, best):
    stand_in(monkeypatch, rates)
    found = measure_sharing(make_trial(), SAMPLE, most, "cuda:0")
    assert [shared.trials for shared in found] == list(range(1, measured + 1))
    assert best_sharing(found) == best


def test_no_more_are_tried_than_fit_into_the_memory(monkeypatch, make_trial):
    stand_in(monkeypatch, [100, 200, 300, 400], memory=30 * GB)
    assert best_sharing(measure_sharing(make_trial(), SAMPLE, 4, "cuda:0")) == 2


def test_what_fails_for_want_of_memory_is_not_chosen(monkeypatch, make_trial):
    stand_in(monkeypatch, [100, 200, 300, 400], fit=3)
    assert best_sharing(measure_sharing(make_trial(), SAMPLE, 4, "cuda:0")) == 3
    stand_in(monkeypatch, [100], fit=0)
    with pytest.raises(SharingError, match="out of memory"):
        measure_sharing(make_trial(), SAMPLE, 4, "cuda:0")


def test_it_says_what_was_measured_and_what_follows():
    found = [Shared(1, 61_000, 2.3e9, 80e9), Shared(2, 62_000, 2.3e9, 80e9)]
    assert described(found) == (
        "--trials-per-gpu auto: 1 (images/s by trials side by side: 1: 61,000, 2: 62,000; 2.3 of 80 GB each)"
    )


@pytest.mark.slow
def test_real_processes_train_side_by_side(monkeypatch, make_trial):
    monkeypatch.setattr(gpu_sharing, "GAIN", 0.0)
    trial = make_trial(model={"weights": "random", "train": "head"}, batch_size=4)
    alone, two = measure_sharing(trial, SAMPLE, 2, "cpu")
    assert (alone.trials, two.trials) == (1, 2)
    assert alone.images_per_second > 0
    assert two.images_per_second > 0


@pytest.mark.slow
def test_the_reason_why_one_cannot_be_measured_is_told(make_trial, tmp_path):
    with pytest.raises(SharingError, match="No such file"):
        measure_sharing(make_trial(), tmp_path / "absent.safetensors", 2, "cpu")


def test_rates_add_up_and_each_takes_its_part_of_the_memory(monkeypatch, make_trial):
    """The processes' answers, without the processes."""
    answers = [json.dumps({"images_per_second": rate, "used": 6 * GB, "total": 80 * GB}) for rate in (100, 50)]
    lines = iter(["warm", "warm", *answers])
    monkeypatch.setattr(gpu_sharing, "start_member", lambda *_: Mock())
    monkeypatch.setattr(gpu_sharing, "next_line", lambda _: next(lines))
    monkeypatch.setattr(gpu_sharing, "print", lambda *_, **__: None, raising=False)  # "go"
    assert gpu_sharing.side_by_side(2, make_trial(), SAMPLE, "cuda:0") == Shared(2, 150, 3 * GB, 80 * GB)


@pytest.mark.parametrize(
    ("settings", "lengths"), [({}, {16, 8}), ({"drop_last": True}, {16}), ({"batch_size": 8}, {8})]
)
def test_an_epochs_last_batch_takes_its_memory_before_it_is_read(monkeypatch, make_trial, capsys, settings, lengths):
    """In this process, and with a step that only notes how long its batch is."""
    seen = []
    step = Mock(side_effect=lambda index, epoch, lr: seen.append(len(index)), ahead=iter)
    monkeypatch.setattr(gpu_sharing, "step_of", lambda *_: step)
    monkeypatch.setattr(gpu_sharing, "predict", lambda *_: None)
    monkeypatch.setattr(gpu_sharing, "SECONDS", 0.01)
    monkeypatch.setattr("sys.stdin", io.StringIO("go\nend\n"))
    trial = make_trial(model={"weights": "random", "train": "head"}, **settings)
    gpu_sharing.main([trial.model_dump_json(), str(SAMPLE), "cpu", "1"])
    assert (set(seen), seen[-1]) == (lengths, min(lengths))
    assert capsys.readouterr().out.startswith("warm\n")
