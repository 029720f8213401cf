import contextlib
import json
import typing

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from raycifar.config.data import Data
from raycifar.config.names import SpecError, check_name
from raycifar.config.settings import Model, TrialSettings
from raycifar.config.sweep import LATER, SweepSpec, TrialSpec
from raycifar.config.sweep_file import MOST_BYTES, load_sweep
from tests.support.hostile import NO_FILE, nothing_waits_for_ever  # noqa: F401
from tests.support.paths import SWEEPS

SWEEP_FILES = sorted(set(SWEEPS.glob("*.toml")) - {SWEEPS / "search.toml"})  # which is a search
DEFAULTS = '[defaults]\nepochs = 2\nmodel = { weights = "random" }\n'
TRIAL = DEFAULTS + '[[trials]]\nname = "a"\n'


@pytest.fixture
def load(tmp_path):
    path = tmp_path / "some.toml"

    def load(text, *overrides):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_sweep(path, overrides)

    return load


@pytest.mark.parametrize("path", SWEEP_FILES, ids=lambda path: path.stem)
def test_every_sweep_file_loads_under_its_own_name(path):
    assert load_sweep(path).name == path.stem


def test_vgg_is_three_transfer_trials_and_one_from_scratch():
    trials = load_sweep(SWEEPS / "vgg.toml").trials
    assert [(t.name, t.arm, t.seed, t.epochs, t.batch_size, t.model.weights) for t in trials] == [
        ("transfer-1", "transfer", 1, 15, 128, "imagenet"),
        ("transfer-2", "transfer", 2, 15, 128, "imagenet"),
        ("transfer-3", "transfer", 3, 15, 128, "imagenet"),
        ("scratch", "scratch", 1, 125, 128, "random"),
    ]


def test_repeats_take_consecutive_seeds_and_nothing_else_differs(load):
    first, second = load(TRIAL + "repeats = 2\nseed = 7").trials
    assert (first.name, first.seed, second.name, second.seed) == ("a-1", 7, "a-2", 8)
    assert first.model_copy(update={"name": "a-2", "seed": 8}) == second


def test_nested_defaults_merge_and_the_trial_wins(load):
    optimizer = load(
        "[defaults.optimizer]\nlr = 0.5\nmomentum = 0.8\n[[trials]]\n"
        'name = "a"\nepochs = 1\nmodel = { weights = "random" }\noptimizer = { lr = 0.25 }'
    )
    assert (optimizer.trials[0].optimizer.lr, optimizer.trials[0].optimizer.momentum) == (0.25, 0.8)


def test_a_sweep_without_a_name_is_named_after_its_file(load):
    assert load(TRIAL).name == "some"


def test_a_file_may_begin_with_a_byte_order_mark(load):
    assert load(b"\xef\xbb\xbf" + TRIAL.encode()) == load(TRIAL)


def test_set_changes_every_trial(load):
    sweep = load(TRIAL + '[[trials]]\nname = "b"', "optimizer.lr=0.5", "model.weights=imagenet")
    assert [(t.optimizer.lr, t.model.weights) for t in sweep.trials] == [(0.5, "imagenet")] * 2


def test_set_changes_one_trial(load):
    sweep = load(TRIAL + '[[trials]]\nname = "b"', "b.optimizer.lr=0.5", "b.epochs=9")
    assert [(t.optimizer.lr, t.epochs) for t in sweep.trials] == [(0.01, 2), (0.5, 9)]


def test_only_keeps_trials_and_arms_by_name():
    sweep = load_sweep(SWEEPS / "vgg.toml")
    assert [t.name for t in sweep.only(["transfer-2", "scratch"]).trials] == ["transfer-2", "scratch"]
    assert [t.name for t in sweep.only(["transfer"]).trials] == ["transfer-1", "transfer-2", "transfer-3"]
    with pytest.raises(SpecError, match=r"scrach.*did you mean 'scratch'"):
        sweep.only(["scrach"])


def test_a_sweep_goes_to_json_and_back():
    for path in SWEEP_FILES:
        sweep = load_sweep(path, ["model.hidden=[64, 32]"])
        again = SweepSpec.model_validate(json.loads(json.dumps(sweep.model_dump(mode="json"))))
        assert again == sweep
        assert again.fingerprint() == sweep.fingerprint()


# Fingerprints ------------------------------------------------------------------------------------------------------

BASE = TrialSpec(name="a", arm="a", seed=1, epochs=20, batch_size=10, model=Model(weights="random"))


def is_table(field):
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def leaves(model, above=()):
    for key, field in model.model_fields.items():
        if is_table(field):
            yield from leaves(field.annotation, (*above, key))
        else:
            yield (*above, key), field.annotation


MEASURES = ("data", "measure_training")  # which changes no number
NUMERIC_FIELDS = [*(leaf for leaf in leaves(TrialSettings) if leaf[0] != MEASURES), (("seed",), int)]


def changed(value, annotation):
    """Another value of the same field that its bounds admit."""
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return {"vgg16": "vgg11", "cifar10": "fashion_mnist", "": "leaves", "all": "head"}[value]
    if value is None:
        kind = typing.get_args(annotation)[0]
        return {int: 32, float: 0.5, bool: False}[getattr(kind, "__origin__", kind)]
    if isinstance(value, tuple):
        return [64]
    return value + 10 if isinstance(value, int) else value / 2 + 0.125


def with_value(keys, value):
    data = BASE.model_dump(mode="json")
    if keys[-1] == "ema_recompute_batch_norm":  # which is refused alone
        data["averaging"]["ema_decay"] = 0.9
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = 64 if keys[-1] == "side" and value else value  # the images' own side, or more
    return TrialSpec.model_validate(data)


@pytest.mark.parametrize(("keys", "annotation"), NUMERIC_FIELDS, ids=lambda x: ".".join(x) if type(x) is tuple else "")
def test_every_setting_changes_the_fingerprint(keys, annotation):
    value = BASE
    for key in keys:
        value = getattr(value, key)
    assert with_value(keys, changed(value, annotation)).fingerprint() != with_value(keys, value).fingerprint()


def test_a_trial_that_does_not_measure_its_training_images_has_the_same_fingerprint():
    assert with_value(MEASURES, False).fingerprint() == BASE.fingerprint()


def test_a_split_of_its_own_is_drawn_by_the_trials_seed():
    trial = with_value(("data", "split_seed"), "trial").model_copy(update={"seed": 7})
    assert (trial.own_data().split_seed, BASE.own_data().split_seed) == (7, 0)
    assert trial.fingerprint() != with_value(("data", "split_seed"), 7).model_copy(update={"seed": 7}).fingerprint()


VARIES = {
    "the default": ({}, False),
    "another number": ({"split_seed": 3}, False),
    "a trial's own held-out images": ({"split_seed": "trial"}, True),
    "all images train": ({"split_seed": "trial", "validation": "train"}, False),
    "a trial's own training images": ({"split_seed": "trial", "validation": "train", "train_images": 100}, True),
}


@pytest.mark.parametrize(("data", "varies"), VARIES.values(), ids=VARIES)
def test_the_settings_say_whether_the_split_varies_between_seeds(data, varies):
    assert Data(**data).split_varies is varies


def test_results_from_before_a_setting_keep_their_fingerprint():
    record = json.loads((SWEEPS.parent / "results/vgg-transfer-1-2-epyc-cores/sweep.json").read_text())
    assert "upsample" not in record["spec"]["trials"][0]["model"]
    assert SweepSpec.model_validate(record["spec"]).fingerprint() == record["fingerprint"]


def test_every_field_of_a_trial_is_either_a_name_or_in_the_fingerprint():
    assert {keys[0] for keys, _ in NUMERIC_FIELDS} | {"name", "arm"} == set(TrialSpec.model_fields)


def test_names_do_not_change_a_trials_fingerprint():
    assert BASE.model_copy(update={"name": "b", "arm": "c"}).fingerprint() == BASE.fingerprint()


def test_a_whole_number_and_its_float_are_the_same_setting(load):
    one, other = (load(TRIAL + f"optimizer = {{ lr = {lr} }}").fingerprint() for lr in ("1", "1.0"))
    assert one == other


def test_a_sweeps_fingerprint_ignores_its_own_name_and_the_order_of_trials():
    one = SweepSpec(name="one", trials=(BASE, BASE.model_copy(update={"name": "b", "seed": 2})))
    assert SweepSpec(name="two", trials=one.trials[::-1]).fingerprint() == one.fingerprint()


def test_a_sweeps_fingerprint_changes_when_a_trial_goes_or_changes():
    sweeps = [load_sweep(SWEEPS / "vgg.toml", s) for s in ([], ["scratch.seed=2"], ["transfer.repeats=2"])]
    assert len({sweep.fingerprint() for sweep in sweeps}) == 3


# Bad input ---------------------------------------------------------------------------------------------------------

NAME = "a name is 1 to 64 letters"
BAD_FILES = {
    "not TOML": ("epochs: 3", ["not valid TOML", "line 1"]),
    "no quotes": (TRIAL + "precision = fp32", ["not valid TOML", "line 6"]),
    "key twice": (TRIAL + "seed = 1\nseed = 2", ["not valid TOML"]),
    "not UTF-8": (b"\xff\xfe[\0", ["not UTF-8"]),
    "binary": ("\0\1\2", ["not valid TOML"]),
    "arrays nested deeply": ("x = " + "[" * 5000 + "]" * 5000, ["not valid TOML"]),
    "tables nested deeply": (TRIAL + ".".join("x" * 3000) + " = 1", ["not valid TOML", "line 6 has 2,999 dots"]),
    "a number of 5,000 digits": (TRIAL + "seed = " + "9" * 5000, ["not valid TOML", "4300"]),
    "a hexadecimal number of 5,000 digits": (TRIAL + "seed = 0x" + "f" * 5000, ["trial 'a'", "seed", "digits"]),
    "a key of 3,000 parts": ("x." * 3000 + "x = 1", ["not valid TOML", "line 1 has 3,000 dots"]),
    "a file of a megabyte": ("#" * (MOST_BYTES + 1), ["cannot be read (larger than 1,000,000 bytes)", "UTF-8 TOML"]),
    "more trials than a sweep can have": (
        DEFAULTS + "".join(f"[[trials]]\nname = '{name}'\nrepeats = 10000\n" for name in "abc"),
        ["30,000 trials, repeats counted", "at most 10,000"],
    ),
    "empty": ("", ["trials is missing", "[[trials]]"]),
    "no trials": (DEFAULTS, ["trials is missing", "[[trials]]"]),
    "an empty list of trials": ("trials = []", ["trials = []", "at least one [[trials]]"]),
    "one pair of brackets": ("[trials]\nname = 'a'", ["trials = {", "[[trials]]"]),
    "trials are numbers": ("trials = [1]", ["trials.0 = 1", "[[trials]]"]),
    "defaults are a number": ("defaults = 3\n[[trials]]", ["defaults = 3", "expected a table"]),
    "misspelt top key": ("[default]\n" + TRIAL, ["default: unknown key", "'defaults'"]),
    "key above its table": ("epochs = 3\n" + TRIAL, ["epochs: unknown key", "known here: name, defaults, trials"]),
    "misspelt key": (TRIAL + "epoch = 3", ["trial 'a': epoch: unknown key", "'epochs'"]),
    "misspelt key of a table": (TRIAL + "optimizer = { lrr = 3 }", ["trial 'a'", "optimizer.lrr", "'lr'"]),
    "misspelt table": (TRIAL + "[trials.optimiser]\nlr = 1", ["trial 'a'", "optimiser", "'optimizer'"]),
    "misspelt key in defaults": (DEFAULTS + "epoch = 1\n[[trials]]", ["[defaults]", "epoch:", "'epochs'"]),
    "nothing near": (TRIAL + "zzz = 1", ["zzz: unknown key; known here: epochs"]),
    "line break in a key": (TRIAL + '"a\\nb" = 1', ["trial 'a'", "a\\nb: unknown key"]),
    "empty key": (TRIAL + '"" = 1', ["trial 'a'", "'': unknown key"]),
    "key of 100,000 letters": (TRIAL + "x" * 100_000 + " = 1", ["trial 'a'", "xxx...xxx", "unknown key"]),
    "value of 100,000 letters": (TRIAL + f"precision = '{'x' * 100_000}'", ["precision = 'xxx", "'auto'"]),
    "control characters in a value": (TRIAL + 'precision = "\\u001b[2J"', ["precision = '\\x1b[2J'"]),
    "no name": (DEFAULTS + "[[trials]]\nseed = 3", ["[[trials]] number 1", "name is missing"]),
    "no epochs": ("[[trials]]\nname = 'a'\nmodel = { weights = 'random' }", ["trial 'a'", "epochs is missing"]),
    "no model": ("[[trials]]\nname = 'a'\nepochs = 3", ["trial 'a'", "model is missing"]),
    "no weights": ("[[trials]]\nname = 'a'\nepochs = 3\nmodel = {}", ["trial 'a'", "model.weights is missing"]),
    "zero epochs": (TRIAL + "epochs = 0", ["trial 'a'", "epochs = 0", "greater than or equal to 1"]),
    "negative epochs": (TRIAL + "epochs = -1", ["trial 'a'", "epochs = -1"]),
    "huge epochs": (TRIAL + "epochs = 10000000000000000000000", ["trial 'a'", "epochs = 1000", "less than or equal"]),
    "a float for a count": (TRIAL + "epochs = 2.0", ["trial 'a'", "epochs = 2.0", "whole number such as 15"]),
    "a string for a count": (TRIAL + "epochs = '2'", ["trial 'a'", "epochs = '2'", "whole number such as 15"]),
    "a date for a count": (TRIAL + "epochs = 2024-01-01", ["trial 'a'", "epochs = ", "whole number such as 15"]),
    "a bool for a count": (TRIAL + "epochs = true", ["trial 'a'", "epochs = true", "whole number such as 15"]),
    "a bool for a number": (TRIAL + "optimizer = { lr = true }", ["trial 'a'", "optimizer.lr = true", "number"]),
    "a number for a bool": (TRIAL + "drop_last = 1", ["trial 'a'", "drop_last = 1", "true or false"]),
    "a string for a number": (TRIAL + "optimizer = { lr = '1e-3' }", ["trial 'a'", "optimizer.lr = '1e-3'", "number"]),
    "NaN": (TRIAL + "optimizer = { lr = nan }", ["trial 'a'", "optimizer.lr = nan", "finite"]),
    "infinity": (TRIAL + "optimizer = { lr = inf }", ["trial 'a'", "optimizer.lr = inf", "finite"]),
    "minus infinity": (TRIAL + "label_smoothing = -inf", ["trial 'a'", "label_smoothing = -inf", "finite"]),
    "a number that overflows": (TRIAL + "optimizer = { lr = 1e999 }", ["optimizer.lr = inf", "finite"]),
    "huge rate": (TRIAL + "optimizer = { lr = 1e300 }", ["optimizer.lr = 1e+300", "1000000"]),
    "zero rate": (TRIAL + "optimizer = { lr = 0 }", ["optimizer.lr = 0", "greater than 0"]),
    "unknown choice": (TRIAL + "optimizer = { name = 'sdg' }", ["optimizer.name = 'sdg'", "'adam', 'adamw' or 'muon'"]),
    "a number for a table": (TRIAL + "optimizer = 3", ["trial 'a'", "optimizer = 3", "optimizer = { lr = 0.01 }"]),
    "a list for a table": (TRIAL + "schedule = [1]", ["trial 'a'", "schedule = [1]", "expected a table"]),
    "a number for a list": (TRIAL + "model = { hidden = 64 }", ["model.hidden = 64", "[4096, 4096]"]),
    "a layer as wide as memory": (TRIAL + "model = { hidden = [10000000] }", ["model.hidden.0 = 10000000", "16384"]),
    "a hundred layers": (TRIAL + f"model = {{ hidden = {[64] * 100} }}", ["model.hidden", "at most 8"]),
    "a word in a list": (TRIAL + "model = { hidden = [1, 'x'] }", ["model.hidden.1 = 'x'", "whole number such as 15"]),
    "slash in a name": (DEFAULTS + "[[trials]]\nname = 'a/b'", ["trial 'a/b'", NAME]),
    "two dots": (DEFAULTS + "[[trials]]\nname = '..'", ["trial '..'", NAME]),
    "space in a name": (DEFAULTS + "[[trials]]\nname = 'a b'", ["trial 'a b'", NAME]),
    "emoji in a name": (DEFAULTS + "[[trials]]\nname = '🙂'", ["trial '🙂'", NAME]),
    "control character in a name": (DEFAULTS + '[[trials]]\nname = "a\\u0007"', ["trial 'a\\x07'", NAME]),
    "line break after a name": (DEFAULTS + '[[trials]]\nname = "a\\n"', ["trial 'a\\n'", NAME]),
    "name of 300 letters": (DEFAULTS + f"[[trials]]\nname = '{'a' * 300}'", ["trial 'aaa", NAME]),
    "name too long with its repeat": (DEFAULTS + f"[[trials]]\nrepeats = 2\nname = '{'a' * 63}'", ["repeat 1", NAME]),
    "empty name": (DEFAULTS + "[[trials]]\nname = ''", ["trial ''", NAME]),
    "markup in a name": (DEFAULTS + "[[trials]]\nname = '<script>'", ["trial '<script>'", NAME]),
    "a folder above in a name": (DEFAULTS + "[[trials]]\nname = '../../etc'", ["trial '../../etc'", NAME]),
    "a name that hides": (DEFAULTS + "[[trials]]\nname = '.ssh'", ["trial '.ssh'", NAME]),
    "a name that is an option": (DEFAULTS + "[[trials]]\nname = '-rf'", ["trial '-rf'", NAME]),
    "letters of another script": (DEFAULTS + "[[trials]]\nname = 'а'", ["trial 'а'", NAME]),
    "a number for a name": (DEFAULTS + "[[trials]]\nname = 3", ["number 1", "name = 3", NAME]),
    "slash in the sweep's name": ("name = '../a'\n" + TRIAL, ["name = '../a'", NAME]),
    "name of another file": (DEFAULTS + "[[trials]]\nname = 'Analysis'", ["'analysis'", "the sweep's folder"]),
    "two trials of one name": (TRIAL + "[[trials]]\nname = 'a'", ["two trials are named 'a'", "its own name"]),
    "names that differ by case": (TRIAL + "[[trials]]\nname = 'A'", ["two trials are named 'a'", "its own name"]),
    "a repeat written by hand": (TRIAL + "repeats = 2\n[[trials]]\nname = 'a-1'", ["two trials are named 'a-1'"]),
    "two recipes of one arm": (
        TRIAL + "repeats = 2\n[[trials]]\nname = 'a'\noptimizer = { lr = 0.3 }",
        ["two [[trials]] are named 'a' and differ in optimizer.lr", "its own name"],
    ),
    "a seed twice in an arm": (
        TRIAL + "repeats = 2\n[[trials]]\nname = 'a'\nseed = 2",
        ["two trials of 'a' have the seed 2", "set another"],
    ),
    "a plateau that lowers nothing": (
        TRIAL + "schedule = { name = 'plateau', min_lr = 0.1 }",
        ["trial 'a'", "schedule.min_lr = 0.1 must be below optimizer.lr = 0.01"],
    ),
    "zero repeats": (TRIAL + "repeats = 0", ["trial 'a'", "repeats = 0"]),
    "seed beyond 31 bits": (TRIAL + "seed = 2147483648", ["trial 'a'", "seed = 2147483648"]),
    "seed of a repeat beyond 31 bits": (TRIAL + "repeats = 2\nseed = 2147483647", ["repeat 2", "seed = 2147483648"]),
    "unknown ingredient": (TRIAL + "augmentation = { cutmixx = 1 }", ["augmentation.cutmixx", "'cutmix'"]),
    "unknown policy": (TRIAL + "augmentation = { policy = 'rand' }", ["augmentation.policy = 'rand'", "'trivial'"]),
    "unknown side": (TRIAL + "model = { upsample = 8 }", ["trial 'a'", "model.upsample = 8", "6 or 7"]),
    "mixup with CutMix": (TRIAL + "augmentation = { mixup = 0.2, cutmix = 1 }", ["'a': augmentation", "cutmix = 0"]),
    "statistics of no average": (
        TRIAL + "averaging = { ema_recompute_batch_norm = true }",
        ["'a': averaging", "set ema_decay"],
    ),
    "two averages": (TRIAL + "averaging = { ema_decay = 0.9, swa_epochs = 1 }", ["'a': averaging", "swa_epochs = 0"]),
    "a mean of more epochs than there are": (
        TRIAL + "averaging = { swa_epochs = 3 }",
        ["swa_epochs = 3", "epochs = 2"],
    ),
    "a mean of epochs that may not come": (
        TRIAL + "averaging = { swa_epochs = 1 }\nearly_stopping = { patience = 1 }",
        ["trial 'a'", "swa_epochs = 0, or patience = 0"],
    ),
    "kernels whose norms nothing makes up for": (
        TRIAL + 'optimizer = { name = "muon" }',
        ["trial 'a'", "set model.batch_norm = true, or optimizer.name = "],
    ),
    "Muon's Nesterov without momentum": (
        TRIAL + 'optimizer = { name = "muon", momentum = 0 }',
        ["trial 'a': optimizer", "nesterov = false"],
    ),
    "rising layers": (TRIAL + "optimizer = { layer_decay = 1.5 }", ["optimizer.layer_decay = 1.5", "less than"]),
    "a head that does not learn": (
        TRIAL + "optimizer = { head_lr_ratio = 0 }",
        ["head_lr_ratio = 0", "greater than 0"],
    ),
    "negative clipping": (TRIAL + "optimizer = { clip_norm = -1 }", ["optimizer.clip_norm = -1", "greater than"]),
    "nothing left to train on": (TRIAL + "data = { holdout_images = 50000 }", ["trial 'a': data", "50,000"]),
    "no multiple of ten": (TRIAL + "data = { train_images = 7 }", ["trial 'a': data", "multiple of the 10 classes"]),
    "more test images than there are": (TRIAL + "data = { test_images = 10010 }", ["data.test_images = 10010"]),
    "warm-up as long as training": (TRIAL + "schedule = { warmup_epochs = 2 }", ["trial 'a'", "below epochs = 2"]),
    "no whole batch": (TRIAL + "data = { train_images = 120 }", ["trial 'a'", "120 images", "lower it, or raise"]),
    "Nesterov without momentum": (TRIAL + "optimizer = { momentum = 0 }", ["trial 'a': optimizer", "nesterov = false"]),
}


def assert_one_line(message, *parts):
    assert message.isprintable()
    assert len(message) < 600
    for part in parts:
        assert part in message


@pytest.mark.parametrize(("content", "parts"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_refused_in_one_line_that_says_where_and_what(load, content, parts):
    with pytest.raises(SpecError) as caught:
        load(content)
    assert_one_line(str(caught.value), "some.toml: ", *parts)


IDLE = {
    "augmentation.mix_probability=0.5": "augmentation.mixup or .cutmix above 0",
    "optimizer.muon_lr=0.02": 'optimizer.name = "muon"',
    "optimizer.head_decay_ratio=10": "optimizer.weight_decay above 0",
    "schedule.factor=0.5": 'schedule.name = "plateau"',
    "schedule.final_ratio=0.1": 'schedule.name = "linear" or "cosine"',
    "early_stopping.min_delta=0.1": "early_stopping.patience above 0",
}


@pytest.mark.parametrize(("setting", "need"), IDLE.items())
def test_a_setting_that_decides_nothing_in_any_trial_is_refused_with_what_it_needs(load, setting, need):
    key = setting.partition("=")[0]
    with pytest.raises(SpecError) as caught:
        load(TRIAL, setting)
    assert_one_line(
        str(caught.value), f"some.toml --set {setting}: a: {key} decides nothing without {need}: set that, or"
    )
    with pytest.raises(SpecError, match=f"some.toml: b: {key} decides nothing"):
        load(TRIAL + f'[[trials]]\nname = "b"\n{setting}')


@pytest.mark.parametrize(
    ("stem", "setting"),
    [("vgg", "scratch.augmentation.cutmix=0"), ("vgg", "optimizer.name=sgd"), ("report", "schedule.name=constant")],
)
def test_an_override_may_leave_the_files_settings_without_effect(stem, setting):
    assert load_sweep(SWEEPS / f"{stem}.toml", [setting])


def test_a_setting_may_stand_in_defaults_that_only_some_trials_need(load):
    trials = TRIAL.replace("[[trials]]", "schedule = { patience = 5 }\n[[trials]]") + '[[trials]]\nname = "b"\n'
    with pytest.raises(SpecError, match=r"some.toml: a, b: schedule\.patience decides nothing"):
        load(trials)
    assert load(trials + 'schedule = { name = "plateau" }').trials[1].schedule.patience == 5


BAD_SETTINGS = {
    "epochs": ["expected key=value"],
    "=3": ["expected key=value"],
    "epochs.=3": ["expected key=value"],
    "epoch=3": ["unknown key", "'epochs'"],
    "a.optimizer.lrr=3": ["optimizer.lrr: unknown key", "'lr'"],
    "aa.epochs=3": ["no [[trials]] and no setting is named 'aa'", "settings: a)"],
    "name=b": ["in the sweep file only"],
    "a.name=b": ["in the sweep file only"],
    "epochs=": ["epochs = ''", "whole number such as 15"],
    "epochs=many": ["epochs = 'many'", "whole number such as 15"],
    "optimizer=3": ["optimizer = 3", "expected a table"],
    "optimizer.lr.x=3": ["optimizer.lr = {'x': 3}", "number"],
    "epochs=3\nseed=4": ["epochs = '3\\nseed=4'"],
    "x\ny=3": ["x\\ny=3"],
    f"epochs={'9' * 5000}": ["epochs = '999", "whole number such as 15"],
    f"epochs={'x.' * 5000}x": ["epochs = 'x.x", "whole number such as 15"],
    f"{'x' * 5000}.epochs=1": ["no [[trials]] and no setting is named 'xxx", "settings: a)"],
    f"model.weights{'.x' * 5000}=1": ["model.weights = {'x':", "'imagenet'"],
    f"epochs={'[' * 5000}": ["epochs = '[[[", "whole number such as 15"],
}


@pytest.mark.parametrize(("setting", "parts"), BAD_SETTINGS.items(), ids=[s[:20] for s in BAD_SETTINGS])
def test_a_bad_setting_is_refused_in_one_line_that_shows_it(load, setting, parts):
    with pytest.raises(SpecError) as caught:
        load(TRIAL, setting)
    assert_one_line(str(caught.value), f"--set {setting[:5]}".splitlines()[0], *parts)


@pytest.mark.parametrize("name", ["", "missing.toml", "line\nbreak.toml", "nul\0.toml", "some.toml/inside", "x" * 300])
def test_a_path_that_is_no_file_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "some.toml").write_text(TRIAL)
    with pytest.raises(SpecError) as caught:
        load_sweep(tmp_path / name)
    assert_one_line(str(caught.value), str(tmp_path))


@pytest.mark.parametrize("put", NO_FILE.values(), ids=NO_FILE)
def test_what_is_no_file_is_refused_and_neither_waited_for_nor_swallowed(tmp_path, put):
    put(tmp_path / "some.toml")
    with pytest.raises(SpecError) as caught:
        load_sweep(tmp_path / "some.toml")
    assert_one_line(str(caught.value), "some.toml: cannot be read", "a sweep file is UTF-8 TOML")


def test_dots_in_a_comment_are_no_key(load):
    assert load("# " + "." * 200 + "\n" + TRIAL)


def test_a_sweep_of_many_trials_names_a_few_in_its_messages(load):
    with pytest.raises(SpecError) as caught:
        load(TRIAL + "repeats = 500").only(["b"])
    assert_one_line(str(caught.value), "--only b: no such trial", "a-1, a-2", "and 491 more")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "a\n", "x" * 65, "🙂"])
def test_a_name_given_on_the_command_line_is_checked_like_a_files(name):
    check_name("q1", "--name")
    with pytest.raises(SpecError) as caught:
        check_name(name, "--name")
    assert_one_line(str(caught.value), "--name", NAME)


@pytest.mark.parametrize("table", [key for key, field in TrialSettings.model_fields.items() if is_table(field)])
def test_a_message_shows_an_example_that_is_valid_itself(load, table):
    with pytest.raises(SpecError) as caught:
        load(TRIAL + f"{table} = 3")
    example = str(caught.value).partition("for example ")[2]
    assert f"{table} = {{" in example
    assert load(TRIAL + example)


# A key that the format knows is likelier to reach deep into the checks than a random one.
KEYS = st.sampled_from([k for keys, _ in NUMERIC_FIELDS for k in keys] + ["name", "repeats", "trials", "defaults"])
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(), st.just("imagenet"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS | st.text(max_size=3), VALUES, max_size=4)
FILES = st.fixed_dictionaries(
    {"trials": st.lists(TABLES, max_size=3)}, optional={"defaults": TABLES, "name": SCALARS, "epochs": VALUES}
)


def assert_loads_or_is_refused(path, content):
    path.write_bytes(content)
    with contextlib.suppress(SpecError):
        assert load_sweep(path).trials


fuzz = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@fuzz
@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: (TRIAL + text).encode("utf-8", "replace"))
)
def test_arbitrary_text_is_loaded_or_refused(tmp_path, content):
    assert_loads_or_is_refused(tmp_path / "some.toml", content)


@fuzz
@given(file=FILES)
def test_arbitrary_tables_are_loaded_or_refused(tmp_path, file):
    complete = {"epochs": 2, "model": {"weights": "random"}, "name": "a"} | file.get("defaults", {})
    for content in (file, file | {"defaults": complete}):
        assert_loads_or_is_refused(tmp_path / "some.toml", tomli_w.dumps(content).encode("utf-8", "replace"))


def test_defaults_stay_what_they_were_for_results_that_left_them_out():
    settings = BASE.settings()
    later = {key: settings[f"{table}.{key}"] for table, keys in LATER.items() for key in keys}
    ones = ("upsample", "head_decay_ratio", "head_lr_ratio", "layer_decay", "mix_probability")
    assert {key: float(later.pop(key)) for key in ones} == dict.fromkeys(ones, 1.0)
    assert (later.pop("policy"), later.pop("muon_lr")) == ('"none"', "0.01")
    assert (settings["model.name"], settings["data.name"]) == ('"vgg16"', '"cifar10"')
    assert (settings["model.source"], settings["data.source"]) == ('""', '""')
    del later["name"], later["source"]
    keys = ("path", "groups", "side", "test", "mirror", "resize", "corrupt", "duplicates")
    own = {key: later.pop(key) for key in keys}
    assert list(own.values()) == ['""', '""', "null", "null", "null", '"crop"', '"refuse"', '"refuse"']
    assert set(later.values()) == {"0", "0.0", "false"}
    assert BASE.data.images == (45_000, 5_000, 10_000)


@pytest.mark.parametrize("setting", ["averaging = { swa_epochs = 2 }", "data = { train_images = 45000 }"])
def test_what_just_fits_is_admitted(load, setting):
    assert load(TRIAL + setting)
