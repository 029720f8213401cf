import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from raycifar.config.data import Data
from raycifar.data.splits import batch_count, batches, load_splits, shares, stratified, train_val_indices
from tests.support.paths import SAMPLE

SMALL = Data(train_images=100, holdout_images=50, test_images=40)


def test_held_out_images_never_train(sample):
    held_out, train = train_val_indices(sample["train_labels"], Data(holdout_images=50))
    assert len(held_out) == 50
    assert set(held_out.tolist()).isdisjoint(train.tolist())
    assert len(held_out) + len(train) == len(sample["train_labels"])


def test_no_split_shares_an_image_with_another():
    data = load_splits(SAMPLE, SMALL)
    images = [{image.numpy().tobytes() for image in split.images} for split in (data.train, data.val, data.test)]
    assert [len(split) for split in images] == [100, 50, 40]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]


def test_the_same_images_are_held_out_whatever_the_training_subset(sample):
    few, _ = train_val_indices(sample["train_labels"], Data(holdout_images=50, train_images=100))
    all_others, _ = train_val_indices(sample["train_labels"], Data(holdout_images=50))
    assert few.equal(all_others)


@pytest.mark.parametrize("count", [10, 100])
def test_a_stratified_subset_has_every_class_equally_often(sample, count):
    index = stratified(sample["train_labels"], count)
    assert sample["train_labels"][index].bincount().tolist() == [count // 10] * 10
    assert index.equal(index.unique())


def test_the_leak_validates_on_the_training_images_themselves():
    data = load_splits(SAMPLE, Data(validation="train", train_images=100))
    assert data.val.images.equal(data.train.images)


def test_an_epoch_takes_every_image_once():
    taken = torch.cat(list(batches(50, 16, torch.Generator().manual_seed(3))))
    assert taken.sort().values.equal(torch.arange(50))
    assert not taken.equal(torch.arange(50))


def test_drop_last_leaves_out_only_the_smaller_batch():
    sizes = [len(batch) for batch in batches(50, 16, torch.Generator(), drop_last=True)]
    assert sizes == [16, 16, 16]
    assert (batch_count(50, 16, True), batch_count(50, 16)) == (3, 4)


def test_another_split_seed_holds_out_and_trains_on_others_and_tests_on_the_same():
    data, other = (load_splits(SAMPLE, SMALL.model_copy(update={"split_seed": seed})) for seed in (0, 1))
    assert not data.val.images.equal(other.val.images)
    assert not data.train.images.equal(other.train.images)
    assert data.test_index.equal(other.test_index)
    assert data.val.labels.bincount().equal(other.val.labels.bincount())
    held_out, train = ({image.numpy().tobytes() for image in split.images} for split in (other.val, other.train))
    assert not held_out & train


def test_a_split_that_no_trial_has_drawn_yet_is_refused():
    with pytest.raises(ValueError, match=r"data\.split_seed = 'trial' is no number yet"):
        load_splits(SAMPLE, SMALL.model_copy(update={"split_seed": "trial"}))


def test_a_subset_larger_than_a_class_is_refused(sample):
    with pytest.raises(ValueError, match="class 0 has 32 images"):
        stratified(sample["train_labels"], 1000)


def test_the_test_index_tells_which_images_are_tested(sample):
    data = load_splits(SAMPLE, SMALL)
    assert data.test.images.equal(sample["test_images"][data.test_index])


def test_the_images_that_are_held_out_are_those_of_all_earlier_results(sample):
    assert stratified(sample["train_labels"], 10).tolist() == [0, 8, 37, 63, 134, 146, 169, 189, 254, 317]


@pytest.mark.parametrize(
    ("images", "count", "expected"),
    [
        ([5_000] * 10, 1_250, [125] * 10),
        ([60, 30, 10], 10, [6, 3, 1]),
        ([50, 30, 20], 9, [4, 3, 2]),  # 4.5, 2.7, 1.8: the two left over go to the largest remainders
        ([10, 10, 10], 4, [2, 1, 1]),
        ([7, 0, 7], 2, [1, 0, 1]),
    ],
)
def test_classes_get_their_shares_by_the_largest_remainder(images, count, expected):
    assert shares(images, count) == expected


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=30).filter(any), st.floats(0, 1))
def test_shares_add_up_and_none_is_more_than_its_class(images, fraction):
    count = int(fraction * sum(images))
    found = shares(images, count)
    assert sum(found) == count
    assert all(share <= number for share, number in zip(found, images, strict=True))


def test_what_the_file_says_of_the_test_images_comes_with_those_that_are_chosen(tmp_path):
    tensors = load_file(SAMPLE)
    near = torch.arange(len(tensors["test_labels"]), dtype=torch.uint8)
    save_file(tensors | {"test_near": near}, tmp_path / "noted.safetensors")
    data = load_splits(tmp_path / "noted.safetensors", SMALL)
    assert {name: of.tolist() for name, of in data.test_notes.items()} == {"near": near[data.test_index].tolist()}
    assert load_splits(SAMPLE, SMALL).test_notes == {}
