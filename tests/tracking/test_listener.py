"""The bus: everybody hears the same, in order, and one that fails disturbs nobody."""

import pytest

from raycifar.storage.records import EpochRecord, TrialSummary
from raycifar.tracking.listener import Bus, Listener, Start

RECORD = EpochRecord(**dict.fromkeys(EpochRecord.__annotations__, 1) | {"epoch": 1})
SUMMARY = TrialSummary(
    **dict.fromkeys(TrialSummary.__annotations__, 0) | {"trial": "a", "best_epoch": 2, "test_accuracy": 0.9203}
)


class Ear(Listener):
    """Keeps what it is told."""

    def __init__(self, name, told):
        self.name, self.told = name, told

    def __getattribute__(self, what):
        if what in vars(Listener) and not what.startswith("_"):
            return lambda *news: self.told.append((self.name, what, *news))
        return super().__getattribute__(what)


@pytest.fixture
def told():
    return []


def bus(told, *more, complaints=None):
    return Bus({"a": 2}, [Ear("first", told), *more, Ear("second", told)], (complaints or []).append)


def test_all_listeners_hear_everything_the_first_of_them_first(told):
    start = Start({}, ())
    with bus(told) as telling:
        telling.start("a", start)
        telling.place("a", ["here:0"])
        telling.epoch("a", RECORD)
        telling.warn("a", "slow")
        telling.summary("a", SUMMARY)
        telling.refresh()
    news = [
        ("start", "a", start),
        ("place", "a", ["here:0"]),
        ("state", "a", "training", ""),
        ("epoch", "a", RECORD),
        ("warn", "a", "slow"),
        ("summary", "a", SUMMARY),
        ("state", "a", "done", "test 92.0 %, best epoch 2"),
        ("refresh",),
        ("close",),
    ]
    assert told == [(name, *each) for each in news for name in ("first", "second")]


def test_a_state_is_told_once_and_its_note_is_one_printable_line(told):
    telling = bus(told)
    for note in ("a\nb\x1b", "a b", ""):
        telling.state("a", "failed", note)
    assert [news[2:] for news in told if news[0] == "first"] == [("a", "failed", "a b"), ("a", "failed", "")]


def test_after_its_last_planned_epoch_a_trial_is_tested(told):
    telling = bus(told)
    for epoch in (1, 2):
        telling.epoch("a", EpochRecord(**RECORD.to_json() | {"epoch": epoch}))
    assert [news[1:] for news in told if news[:2] == ("first", "state")] == [("state", "a", "testing", "")]


@pytest.mark.parametrize("what", ["start", "state", "place", "warn", "epoch", "summary", "refresh", "close"])
def test_a_listener_that_fails_is_told_of_once_and_the_others_go_on(told, what):
    class Full(Listener):
        pass

    def fail(*_):
        raise OSError(28, "No space left on device")

    setattr(Full, what, fail)
    complaints = []
    telling = Bus({"a": 2}, [Full(), Ear("other", told)], complaints.append)
    for _ in range(2):
        with telling:
            telling.start("a", Start({}, ()))
            telling.place("a", ["here:0"])
            telling.warn("a", "slow")
            telling.epoch("a", RECORD)
            telling.summary("a", SUMMARY)
            telling.refresh()
    assert complaints == ["Full stopped logging this sweep: [Errno 28] No space left on device"]
    assert [news[1] for news in told].count(what) >= 2


def test_ctrl_c_is_no_failure_of_a_listener():
    class Interrupted(Listener):
        def epoch(self, trial, record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bus({"a": 2}, [Interrupted()], pytest.fail).epoch("a", RECORD)
