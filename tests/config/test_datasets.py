"""What is known of a data set, and the limits of settings that depend on it."""

import json
import typing

import pytest
from pydantic import ValidationError

from raycifar.config.datasets import BUILT_IN, CIFAR10, Facts
from raycifar.config.names import SpecError
from raycifar.config.sweep import SweepSpec, checked
from raycifar.config.sweep_file import load_sweep

LEAVES = CIFAR10.model_copy(
    update={"name": "leaves", "title": "leaves", "classes": ("ash", "elm", "oak"), "train": (300, 200, 101)}
    | {"test": (30, 20, 11), "side": 64, "mirror": False, "digest": "ab" * 32}
)


def sweep_of(**tables):
    trial = {"name": "a", "arm": "a", "seed": 1, "epochs": 1, "batch_size": 10, "model": {"weights": "random"}}
    return SweepSpec.model_validate({"name": "s", "trials": [trial | tables]})


@pytest.mark.parametrize("facts", BUILT_IN.values(), ids=BUILT_IN)
def test_facts_go_to_json_and_back(facts):
    text = json.dumps(facts.model_dump(mode="json") | {"of a newer version": 1})
    assert Facts.model_validate_json(text) == facts
    assert Facts.model_validate(json.loads(text)) == facts


@pytest.mark.parametrize(
    "wrong", [{"classes": ["one"]}, {"train": [5]}, {"train": [-1] * 10}, {"side": 0}, {"mean": [0.5]}, {"mirror": 1}]
)
def test_facts_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        Facts.model_validate(CIFAR10.model_dump() | wrong)


def test_what_is_known_decides_the_numbers_of_images_and_no_fingerprint():
    sweep = sweep_of(data={"holdout_images": 100, "train_images": 200})
    informed = checked(sweep, LEAVES)
    assert sweep.data.images == (200, 100, 10_000)
    assert informed.data.images == (200, 100, 61)
    assert informed == sweep
    assert informed.fingerprint() == sweep.fingerprint()


REFUSED: dict[str, tuple[dict[str, typing.Any], list[str]]] = {
    "more held out than there are": (
        {"data": {"holdout_images": 600}},
        ["trial 'a'", "leaves has 601 training images"],
    ),
    "more tested than there are": ({"data": {"test_images": 70}}, ["data.test_images = 70", "61 test images"]),
    "a flip of what has no mirror image": (
        {"augmentation": {"flip": "random"}},
        ["trial 'a': augmentation.flip", "leaves has data.mirror = false: a mirror image is another class"],
    ),
    "a flip beside the setting": (
        {"augmentation": {"flip": "random"}, "data": {"mirror": False}},
        ["trial 'a': augmentation.flip", "data.mirror = false says that a mirror image is another class"],
    ),
    "a crop of more than half": ({"augmentation": {"crop": 33}}, ["crop = 33", "at most 32", "64 pixels"]),
    "a cutout of more than all": ({"augmentation": {"cutout": 65}}, ["cutout = 65", "at most 64"]),
    "a batch of more than train": ({"data": {"train_images": 5}}, ["batch_size = 10", "5 images"]),
}


@pytest.mark.parametrize(("tables", "said"), REFUSED.values(), ids=REFUSED)
def test_settings_that_do_not_suit_the_data_set_are_refused(tables, said):
    tables = {**tables, "data": {"holdout_images": 100} | tables.get("data", {})}
    model = SweepSpec.model_construct(name="s", trials=(_unchecked(tables),))
    with pytest.raises(SpecError) as error:
        checked(model, LEAVES)
    assert [part for part in said if part not in str(error.value)] == []
    assert "\n" not in str(error.value)


def _unchecked(tables):
    """A trial whose settings suit no data set that is built in."""
    trial = sweep_of().trials[0]
    changed = {key: type(getattr(trial, key)).model_validate(value) for key, value in tables.items()}
    return trial.model_copy(update=changed)


def test_a_network_that_halves_the_images_to_nothing_is_refused():
    small = LEAVES.model_copy(update={"side": 16})
    with pytest.raises(SpecError, match=r"'vgg16': it halves its images 5 times.* 32 pixels a side, and have 16"):
        checked(sweep_of(data={"holdout_images": 100}), small)
    doubled = sweep_of(data={"holdout_images": 100}, model={"weights": "random", "upsample": 2})
    assert checked(doubled, small).data.facts is small


NAMES: dict[str, tuple[str, list[str]]] = {
    "two sources": (
        '[[trials]]\nname = "a"\n[[trials]]\nname = "b"\ndata = { name = "fashion_mnist" }',
        ["trial 'b': data.name = 'fashion_mnist': all trials of a sweep share one data set"],
    ),
    "an unknown data set": (
        '[[trials]]\nname = "a"\ndata = { name = "fashion-mnist" }',
        ["trial 'a': data.name: 'fashion-mnist' is unknown, did you mean 'fashion_mnist'?", "known here: cifar10"],
    ),
    "an unknown network": (
        '[[trials]]\nname = "a"\nmodel = { name = "vgg15" }',
        ["trial 'a': model.name: 'vgg15' is unknown, did you mean 'vgg", "known here: vgg16"],
    ),
    "weights that cannot be had": (
        '[[trials]]\nname = "a"\nmodel = { name = "vgg11", weights = "imagenet" }',
        ["trial 'a': model: weights = \"imagenet\": vgg11 has none here", 'name = "vgg16"'],
    ),
    "a name that is none": ('[[trials]]\nname = "a"\ndata = { name = 7 }', ["data.name = 7"]),
}


@pytest.mark.parametrize(("trials", "said"), NAMES.values(), ids=NAMES)
def test_names_of_data_sets_and_networks_are_checked(tmp_path, trials, said):
    file = tmp_path / "some.toml"
    file.write_text(f'[defaults]\nepochs = 2\nmodel = {{ weights = "random" }}\n{trials}\n')
    with pytest.raises(SpecError) as error:
        load_sweep(file)
    assert [part for part in said if part not in str(error.value)] == []
    assert "\n" not in str(error.value)
