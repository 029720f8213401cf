"""Images that stay in their file give the same numbers, to the bit, as those on the device."""

import copy
import time
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import raycifar.training.trial
from raycifar.config.data import Data
from raycifar.data.mapped import BATCHES_AHEAD, Mapped, ReadAhead
from raycifar.data.splits import Split, load_splits, load_training
from raycifar.networks.cost import work
from raycifar.training.evaluation import predict
from raycifar.training.loop import TrainState, fit, step_of
from raycifar.training.trial import READ_AHEAD, Assets, Caller, Place, run_trial
from tests.support.networks import Small
from tests.support.paths import SAMPLE
from tests.support.records import numbers

RESIDENT, MAPPED = Place("cpu", 1, "here:cpu"), Place("cpu", 1, "here:cpu", image_bytes=0.0)
AUGMENTATIONS = {
    "none": {},
    "crop": {"crop": 4},
    "random flip": {"flip": "random"},
    "alternating flip": {"flip": "alternating"},
    "crop, flip, cutout": {"crop": 3, "flip": "alternating", "cutout": 8},
    "trivial": {"policy": "trivial", "crop": 4, "flip": "random"},
    "mixup": {"mixup": 0.4, "flip": "alternating"},
    "cutmix of a policy": {"policy": "trivial", "cutmix": 1.0, "mix_probability": 0.5},
}
SETTINGS = {name: {"augmentation": spec} for name, spec in AUGMENTATIONS.items()} | {
    "plain mean": {"averaging": {"swa_epochs": 2}},
    "validated on what trains": {"data": {"validation": "train", "train_images": 40, "test_images": 20}},
    "smaller last batch left out": {"drop_last": True, "batch_size": 12},
}


def both(spec):
    return [load_splits(SAMPLE, spec.data, resident=resident) for resident in (True, False)]


def trained(spec, data, until=None, state=None):
    """The state after the last epoch, or the epoch `until`, and the records."""
    state, records = state or TrainState(Small(), spec), []
    for record in fit(state, data.train, data.val, spec):
        records.append(record)
        if record.epoch == until:
            break
    return state, records


def same(mine, theirs):
    mine, theirs = mine.model.state_dict(), theirs.model.state_dict()
    return all(mine[name].equal(theirs[name]) for name in theirs)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_mapped_images_train_to_the_same_numbers_to_the_bit(make_trial, settings):
    spec = make_trial(epochs=3, precision="fp32", **settings)
    (expected, records), (state, mapped) = (trained(spec, data) for data in both(spec))
    assert numbers(mapped) == numbers(records)
    assert same(state, expected)


def test_a_trial_resumes_to_the_bit_on_either_path(make_trial):
    spec = make_trial(epochs=3, precision="fp32", augmentation={"crop": 4, "flip": "alternating", "mixup": 0.4})
    resident, mapped = both(spec)
    expected, _ = trained(spec, resident)
    for first, rest in ((resident, mapped), (mapped, resident), (mapped, mapped)):
        before, _ = trained(spec, first, until=1)
        after = TrainState(Small(), spec)
        after.load_state_dict(copy.deepcopy(before.state_dict()))
        assert same(trained(spec, rest, state=after)[0], expected)


def test_a_trial_without_room_for_its_images_ends_with_the_same_summary_and_says_why_it_reads(
    make_trial, tmp_path, monkeypatch
):
    monkeypatch.setattr(raycifar.training.trial, "build_network", lambda *_: Small())
    spec, told = make_trial(augmentation={"crop": 4}), []

    def summary(name, place, warn):
        (tmp_path / name).mkdir()
        caller = Caller(lambda record, saved: None, warn=warn)
        done = run_trial(spec, tmp_path / name, Assets(SAMPLE, None), place, caller)
        return done.test_loss, done.test_accuracy_flip, done.best_val_loss, done.plain_train_accuracy

    assert summary("mapped", MAPPED, told.append) == summary("resident", RESIDENT, str)
    assert told == [READ_AHEAD % (spec.image_bytes / 1e9)]


def test_the_place_is_no_part_of_the_settings_and_images_that_fit_are_resident(make_trial):
    spec = make_trial(augmentation={"crop": 4})
    assert spec.image_bytes == 3 * (80 * 32**2 + 40 * 40**2)
    assert replace(RESIDENT, image_bytes=spec.image_bytes).holds(spec.image_bytes)
    assert not replace(RESIDENT, image_bytes=spec.image_bytes - 1).holds(spec.image_bytes)
    assert work(spec)  # placement's arithmetic asks for nothing else


def test_mapped_splits_hold_no_pixels_of_their_own():
    spec = Data(train_images=40, holdout_images=20, test_images=20)
    for split in (load_splits(SAMPLE, spec, resident=False).test, load_training(SAMPLE, spec, resident=False).val):
        assert isinstance(split.images, Mapped)
        assert split.images.source.shape[0] > len(split)
        assert split.take(torch.arange(7)).images.source is split.images.source
        assert split.share(1, 3).images.source is split.images.source


@pytest.fixture
def mapped(train_images):
    index = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(3))[:50]
    return Mapped(train_images.images, index, torch.device("cpu"))


def test_parts_come_in_order_and_each_stays_what_it_is(mapped):
    expected = mapped.source[mapped.index]
    assert torch.cat(list(mapped.split(7))).equal(expected)
    assert mapped[:9].equal(expected[:9])
    assert mapped[torch.tensor([4, 0, 49])].equal(expected[[4, 0, 49]])
    assert mapped.take(slice(1, None, 3))[:].equal(expected[1::3])
    assert mapped.shape == expected.shape


def test_predictions_are_the_same(mapped):
    model, labels = Small(), torch.zeros(50, dtype=torch.int64)
    resident = Split(mapped[:], labels)
    for mirrored in (False, True):
        assert predict(model, Split(mapped, labels), mirrored=mirrored).equal(
            predict(model, resident, mirrored=mirrored)
        )


def test_an_image_that_the_file_does_not_have_is_refused(mapped):
    for wrong in (len(mapped.source), -1):
        with pytest.raises(IndexError, match=f"the file has {len(mapped.source)}"):
            Mapped(mapped.source, torch.tensor([0, wrong]), mapped.device)


def test_the_next_batches_are_gathered_while_a_step_runs(mapped):
    order, asked = list(torch.arange(48).split(8)), []

    class Watched(Mapped):
        def gathered(self, which, stream=None):
            asked.append(int(which[0]) // 8)
            return super().gathered(which, stream)

    ahead = ReadAhead(Watched(mapped.source, mapped.index, mapped.device), 8)
    for number, index in enumerate(ahead.ahead(order)):
        until = time.monotonic() + 10
        while len(asked) < min(number + BATCHES_AHEAD, len(order)) and time.monotonic() < until:
            time.sleep(0.001)
        assert asked == list(range(min(number + BATCHES_AHEAD, len(order))))
        assert ahead.read(index).equal(mapped[index])
    assert all(a < b for a, b in pairwise(asked))


def test_a_batch_that_nobody_announced_and_one_out_of_turn_are_read_all_the_same(mapped):
    ahead, order = ReadAhead(mapped, 8), list(torch.arange(48).split(8))
    assert ahead.read(order[3]).equal(mapped[order[3]])
    for index in ahead.ahead(order):
        other = torch.tensor([5, 1])
        assert ahead.read(other).equal(mapped[other])
        assert ahead.read(index).equal(mapped[index])
        if index is order[1]:
            break  # the epoch ends here
    for index in ahead.ahead(order[4:]):
        assert ahead.read(index).equal(mapped[index])


def test_what_fails_in_the_thread_reaches_the_step(make_trial, mapped):
    class Broken(Mapped):
        def gathered(self, which, stream=None):
            raise OSError("the disk is gone")

    spec = make_trial(batch_size=16)
    train = Split(mapped, torch.zeros(50, dtype=torch.int64))
    step = step_of(TrainState(Small(), spec), train, spec)
    step._source._images = Broken(mapped.source, mapped.index, mapped.device)
    (index, *_) = step.ahead([torch.arange(16)])
    with pytest.raises(OSError, match="the disk is gone"):
        step(index, 1, 0.1)
