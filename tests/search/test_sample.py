"""One sample of a search, trained and validated without a test image."""

import pytest
import torch
from safetensors.torch import save_file

from raycifar.data.own.images import fetch_own
from raycifar.data.splits import Training, load_splits, load_training
from raycifar.search.sample import sample_epochs
from raycifar.storage.folders import TrialFolder
from raycifar.training.loop import NonFiniteLossError
from raycifar.training.trial import Assets, Place
from tests.support.own_images import write_folder
from tests.support.paths import SAMPLE

pytestmark = pytest.mark.slow
HERE = Place("cpu", 1, "here:cpu")
HEAD = {"weights": "random", "train": "head"}  # quick


@pytest.fixture
def without_test(sample, tmp_path):
    """A data set in which there are no test images to be read."""
    path = tmp_path / "training-only.safetensors"
    save_file({name: tensor for name, tensor in sample.items() if name.startswith("train_")}, path)
    return path


def test_a_sample_trains_from_a_file_that_holds_no_test_images(make_trial, without_test, tmp_path):
    spec = make_trial(model=HEAD)
    with pytest.raises(KeyError):
        load_splits(without_test, spec.data)
    records = list(sample_epochs(spec, tmp_path, Assets(without_test, None), HERE))
    assert [record.epoch for record in records] == [1, 2]


def test_what_a_search_trains_on_has_no_test_split_but_the_same_other_two(make_trial, without_test):
    data = make_trial().data
    training, everything = load_training(without_test, data), load_splits(SAMPLE, data)
    assert set(Training.__slots__) == {"train", "val"}
    for mine, theirs in ((training.train, everything.train), (training.val, everything.val)):
        assert torch.equal(mine.images, theirs.images)
        assert torch.equal(mine.labels, theirs.labels)


def test_a_sample_draws_a_split_of_its_own_by_its_seed(make_trial, tmp_path):
    def losses(split_seed):
        data = make_trial().data.model_dump() | {"split_seed": split_seed}
        spec = make_trial(model=HEAD, data=data, seed=7, epochs=1)
        return [record.val_loss for record in sample_epochs(spec, tmp_path, Assets(SAMPLE, None), HERE)]

    assert losses("trial") == losses(7) != losses(0)


def test_an_epoch_is_in_the_history_before_it_is_yielded_and_nothing_else_is_left(make_trial, tmp_path):
    for record in sample_epochs(make_trial(model=HEAD), tmp_path, Assets(SAMPLE, None), HERE):
        assert TrialFolder(tmp_path).history().epochs[-1] == record
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]


def test_a_sample_that_starts_over_forgets_its_earlier_epochs(make_trial, tmp_path):
    for _ in range(2):
        next(sample_epochs(make_trial(model=HEAD), tmp_path, Assets(SAMPLE, None), HERE))
    assert [record.epoch for record in TrialFolder(tmp_path).history().epochs] == [1]


def test_a_sample_reads_the_users_own_images(make_trial, cache, tmp_path):
    write_folder(tmp_path / "leaves", {"ash": 20, "elm": 20})
    data = {"path": str(tmp_path / "leaves"), "side": 32}
    spec = make_trial(model=HEAD, data=data, batch_size=8)
    epochs = list(sample_epochs(spec, tmp_path, Assets(fetch_own(spec.data), None), HERE))
    assert [epoch.epoch for epoch in epochs] == [1, 2]


def test_a_sample_that_diverges_raises(make_trial, tmp_path):
    with pytest.raises(NonFiniteLossError):
        list(sample_epochs(make_trial(optimizer={"lr": 1e6}), tmp_path, Assets(SAMPLE, None), HERE))
