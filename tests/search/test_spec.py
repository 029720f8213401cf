"""`[search]` in a sweep file: what it means, and what is refused with place, value and remedy."""

import json
import re

import pytest

from raycifar.config.names import SpecError
from raycifar.config.needs import NEEDS
from raycifar.config.sweep_file import load_sweep
from raycifar.search.spec import Range, SearchSpec, load_search
from tests.support.paths import SWEEPS

TRIAL = '[[trials]]\nname = "a"\nepochs = 4\nmodel = { weights = "random" }\n'
SEARCH = TRIAL + "[search]\nsamples = 3\n"
SPACE = SEARCH + "[search.space]\n"
GOOD = SPACE + "optimizer.lr = { loguniform = [1e-3, 1e-1] }\n"


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "some.toml"

    def load(text, *settings):
        path.write_text(text)
        return load_search(path, settings)

    return load


def test_the_example_is_a_search_of_the_transfer_arm():
    search = load_search(SWEEPS / "search.toml")
    assert (search.name, search.trial.name, search.trial.model.weights) == ("search", "transfer", "imagenet")
    assert list(search.space) == [
        "optimizer.muon_lr",
        "optimizer.lr",
        "label_smoothing",
        "augmentation.cutout",
        "model.dropout",
        "averaging.ema_decay",
    ]


def test_a_sweep_is_no_search_and_a_search_no_sweep():
    assert load_search(SWEEPS / "vgg.toml") is None
    with pytest.raises(SpecError, match=r"search\.toml: \[search\] makes it a search, not a sweep"):
        load_sweep(SWEEPS / "search.toml")


@pytest.mark.parametrize(
    ("line", "key", "allowed"),
    [
        ("optimizer.lr = { uniform = [0.1, 1] }", "optimizer.lr", Range(kind="uniform", values=(0.1, 1.0))),
        ("optimizer.lr = { loguniform = [1e-3, 1] }", "optimizer.lr", Range(kind="loguniform", values=(1e-3, 1.0))),
        ("batch_size = { int = [32, 64] }", "batch_size", Range(kind="int", values=(32, 64))),
        ('model.train = { choice = ["all", "head"] }', "model.train", Range(kind="choice", values=("all", "head"))),
        ("drop_last = { choice = [true, false] }", "drop_last", Range(kind="choice", values=(True, False))),
        ("label_smoothing = { choice = [0, 0.1] }", "label_smoothing", Range(kind="choice", values=(0, 0.1))),
    ],
)
def test_a_range_is_read_as_it_stands(load, line, key, allowed):
    assert load(SPACE + line).space == {key: allowed}


def test_a_search_goes_to_json_and_back(load):
    search = load(GOOD + "augmentation.cutout = { choice = [0, 8] }\ndrop_last = { choice = [true, false] }")
    assert SearchSpec.model_validate(json.loads(json.dumps(search.model_dump(mode="json")))) == search


def test_a_sample_is_the_trial_with_its_settings(load):
    search = load(GOOD)
    sample = search.sample({"optimizer.lr": 0.02}, "sample-0001")
    assert (sample.name, sample.optimizer.lr) == ("sample-0001", 0.02)
    assert sample.model_copy(update={"optimizer": search.trial.optimizer}).fingerprint() == search.trial.fingerprint()


def test_set_reaches_the_trial_the_search_and_its_space(load):
    own = (
        "search.samples=7",
        "search.space.optimizer.lr={ uniform = [0.1, 0.2] }",
        "search.space.drop_last.choice=[true, false]",
    )
    search = load(GOOD, "epochs=3", "a.batch_size=16", *own)
    assert (search.trial.epochs, search.trial.batch_size, search.samples) == (3, 16, 7)
    assert [allowed.kind for allowed in search.space.values()] == ["uniform", "choice"]


def test_what_a_search_asks_does_not_change_with_its_samples_or_names(load):
    search = load(GOOD)
    assert load(GOOD, "search.samples=9").asks == search.asks
    assert load(GOOD.replace('"a"', '"b"')).asks == search.asks
    assert load(GOOD, "epochs=3").asks != search.asks
    assert load(GOOD, "search.space.optimizer.lr={ loguniform = [1e-3, 1] }").asks != search.asks


BAD = {
    "an inverted range": (
        SPACE + "optimizer.lr = { uniform = [0.1, 0.01] }",
        r"uniform = \[0.1, 0.01\] .*inverted range: write \[0.01, 0.1\]",
    ),
    "an empty range": (SPACE + "optimizer.lr = { uniform = [0.1, 0.1] }", "empty range: name two different ends"),
    "three ends": (SPACE + "optimizer.lr = { uniform = [1, 2, 3] }", r"expected \[lowest, highest\], two numbers"),
    "words for ends": (SPACE + 'optimizer.lr = { uniform = ["a", "b"] }', r"expected \[lowest, highest\], two numbers"),
    "switches for ends": (SPACE + "batch_size = { int = [true, 8] }", "two whole numbers"),
    "halves for whole numbers": (SPACE + "batch_size = { int = [1.5, 8] }", "two whole numbers"),
    "an infinite range": (SPACE + "optimizer.lr = { uniform = [0.1, inf] }", "two numbers"),
    "a logarithm of zero": (SPACE + "optimizer.lr = { loguniform = [0, 0.1] }", r"above 0: for example \[1e-5, 0.1\]"),
    "a choice of no number": (SPACE + "optimizer.lr = { choice = [0.1, nan] }", "expected a list of numbers"),
    "a choice without end": (SPACE + "optimizer.lr = { choice = [0.1, inf] }", "expected a list of numbers"),
    "a number of 5,000 digits": (
        SPACE + f"batch_size = {{ int = [1, 0x{4000 * 'f'}] }}",
        r"int = \[1, a number of thousands of digits\] }: expected \[lowest, highest\], two whole",
    ),
    "a number between words": (
        SPACE + "model.upsample = { uniform = [1, 2] }",
        r"model.upsample = \{ uniform = \[1, 2\] \}: nothing lies between 1, 2, 3, 4, 5, 6, 7: .*choice",
    ),
    "no choice": (SPACE + "augmentation.cutout = { choice = [8] }", "leaves no choice"),
    "a choice of nothing": (SPACE + "augmentation.cutout = { choice = [] }", "leaves no choice"),
    "a choice named twice": (SPACE + "augmentation.cutout = { choice = [8, 8] }", "names a value twice"),
    "a choice spelt twice": (SPACE + "label_smoothing = { choice = [0, 0.0] }", "names a value twice"),
    "a choice of lists": (SPACE + "model.hidden = { choice = [[], [64]] }", "expected a list of numbers, words or"),
    "an unknown kind": (SPACE + "optimizer.lr = { loguniforms = [1, 2] }", "did you mean 'loguniform'"),
    "two kinds": (SPACE + "optimizer.lr = { uniform = [1, 2], int = [1, 2] }", "expected one of choice, uniform"),
    "a bare value": (SPACE + "optimizer.lr = 0.1", "expected one of choice, uniform, loguniform, int, for example"),
    "an unknown ingredient": (
        SPACE + "augmentation.cutuot = { int = [0, 8] }",
        r"augmentation.cutuot: unknown key, did you mean 'cutout'\?",
    ),
    "an unknown table": (
        SPACE + "optimiser.lr = { uniform = [1, 2] }",
        r"optimiser: unknown key, did you mean 'optimizer'\?",
    ),
    "a quoted key": (SPACE + '"optimizer.lr" = { uniform = [1, 2] }', "leave out the quotes: optimizer.lr ="),
    "a table as a setting": (SPACE + "optimizer = 3", "a table of settings: search one, as optimizer.name"),
    "a value beyond its bounds": (
        SPACE + "model.dropout = { uniform = [0, 2] }",
        r"model.dropout = 2.0: should be less",
    ),
    "fractions of a whole setting": (
        SPACE + "augmentation.cutout = { uniform = [0, 8] }",
        "augmentation.cutout = 0.0: expected a whole number such as 15",
    ),
    "an unknown word": (SPACE + 'model.train = { choice = ["all", "blok"] }', "model.train = 'blok'"),
    "settings that exclude each other": (
        SPACE.replace("[search]", 'optimizer = { name = "adam", nesterov = false }\n[search]')
        + "optimizer.momentum = { uniform = [0, 0.9] }\noptimizer.nesterov = { choice = [true, false] }\n"
        'optimizer.name = { choice = ["sgd", "adam"] }',
        "nesterov needs momentum above 0",
    ),
    "the test images": (
        SPACE + "data.test_images = { int = [10, 20] }",
        "data: .*the test images are never read in a search",
    ),
    "a seed": (SPACE + "seed = { int = [1, 9] }", "seed: the luckiest seed is no finding"),
    "repeats": (SPACE + "repeats = { int = [1, 9] }", "repeats: the luckiest seed is no finding"),
    "epochs": (SPACE + "epochs = { int = [1, 9] }", "epochs: samples are compared after as many epochs"),
    "another objective": (
        SEARCH + 'objective = "test_accuracy"\n',
        "objective: the objective is always the validation accuracy",
    ),
    "a metric of the test set": (SEARCH + "on_test = true\n", "a search never reads the test images"),
    "an unknown key": (SEARCH + "sample = 3\n", r"unknown key, did you mean 'samples'\?"),
    "no samples": (TRIAL + "[search]\nsamples = 0\n", r"samples = 0: should be greater than or equal to 1"),
    "no space": (SEARCH, r"\[search.space\] is missing or empty: add"),
    "an empty space": (SPACE, r"\[search.space\] is missing or empty: add"),
    "a space without a setting": (SPACE + "optimizer = {}", r"\[search.space\] names no setting: add for example"),
    "a search that is no table": ("search = 3\n" + TRIAL, r"search = 3: expected a table, for example \[search\]"),
    "two trials": (GOOD.replace(TRIAL, TRIAL + TRIAL.replace('"a"', '"b"')), "from one trial, here are 2"),
    "grace beyond the end": (
        GOOD.replace("samples = 3", "grace_epochs = 5"),
        "search.grace_epochs = 5 must not exceed epochs = 4",
    ),
    "validation on the training images": (
        GOOD.replace("[search]", 'data = { validation = "train" }\n[search]'),
        'data.validation = "holdout"',
    ),
    "early stopping of its own": (
        GOOD.replace("[search]", "early_stopping = { patience = 2 }\n[search]"),
        "early_stopping.patience = 2: ASHA stops the samples",
    ),
}


@pytest.mark.parametrize(("text", "line"), BAD.values(), ids=BAD)
def test_a_wrong_search_is_refused_in_one_line_that_names_the_file(load, text, line):
    with pytest.raises(SpecError, match=f"(?s)some.toml.*{line}") as refused:
        load(text)
    assert "\n" not in str(refused.value)


IDLE = [
    ("", "augmentation.mix_probability = { uniform = [0, 1] }", "augmentation.mixup or .cutmix above 0"),
    (
        "averaging = { ema_decay = 0.9 }\n",
        "averaging.ema_recompute_batch_norm = { choice = [true, false] }",
        "model.batch_norm = true",
    ),
    ('optimizer = { name = "adam" }\n', "optimizer.momentum = { uniform = [0.5, 0.9] }", 'optimizer.name = "sgd"'),
    ("", "optimizer.muon_lr = { loguniform = [1e-3, 1e-1] }", 'optimizer.name = "muon"'),
    ("", "optimizer.bias_decay_ratio = { uniform = [0, 1] }", "optimizer.weight_decay above 0"),
    ('model.train = "head"\n', "optimizer.layer_decay = { uniform = [0.5, 1] }", 'model.train = "all", or'),
    ("", "schedule.final_ratio = { uniform = [0, 1] }", 'schedule.name = "linear" or "cosine"'),
    ("", "schedule.patience = { int = [2, 5] }", 'schedule.name = "plateau"'),
]


@pytest.mark.parametrize(("setting", "space", "need"), IDLE)
def test_a_setting_that_decides_nothing_is_refused_with_what_it_needs(load, setting, space, need):
    model = 'model = { weights = "random" }'
    text = SPACE.replace(model, 'model.weights = "random"').replace("[search]", f"{setting}[search]", 1)
    with pytest.raises(SpecError, match=f"decides nothing without {re.escape(need)}.*: set that in the trial, or"):
        load(text + space)


def test_a_setting_that_decides_something_in_some_samples_is_searched(load):
    both = 'schedule.patience = { int = [2, 5] }\nschedule.name = { choice = ["plateau", "cosine"] }'
    assert list(load(SPACE + both).space) == ["schedule.patience", "schedule.name"]


def test_every_setting_that_needs_another_is_one(load):
    trial = load(GOOD).trial.settings()
    assert NEEDS.keys() <= trial.keys()


def test_a_line_about_a_long_key_is_short(load):
    with pytest.raises(SpecError) as refused:
        load(SPACE + f"{5000 * 'k'} = {{ int = [1, 2] }}")
    assert len(str(refused.value)) < 600


def test_too_many_settings_are_refused(load, monkeypatch):
    monkeypatch.setattr("raycifar.search.spec.MOST_SETTINGS", 1)
    with pytest.raises(SpecError, match="2 settings, at most 1"):
        load(GOOD + "batch_size = { int = [32, 64] }")


@pytest.mark.parametrize("setting", ["search.samples=0", "search.space=3", "search.space.optimizer.lr.uniform=3"])
def test_a_wrong_setting_of_the_search_is_refused_by_its_name(load, setting):
    with pytest.raises(SpecError, match=f"some.toml --set {setting}"):
        load(GOOD.replace("loguniform = [1e-3, 1e-1]", "uniform = [1, 2]"), setting)


def test_a_grace_of_all_epochs_is_admitted(load):
    assert load(GOOD, "search.grace_epochs=4").grace_epochs == 4
