"""The user's own code runs where the command line allows it, and nowhere else."""

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from raycifar import load_model, user_code
from raycifar.analysis.trial_state import ResultsError
from raycifar.commands import analyze, run_sweep
from raycifar.config.data import Data
from raycifar.config.datasets import BUILT_IN, CIFAR10
from raycifar.config.sweep_file import load_sweep
from raycifar.data.sources import fetch_data, known_facts
from raycifar.execution import shared_code
from raycifar.execution.session import Job
from raycifar.execution.shared_code import share_code
from raycifar.networks.own import check_own
from raycifar.networks.registry import build_network
from raycifar.storage.asset_cache import metadata_on_file
from raycifar.user_code import CodeError
from tests.support.hostile import everything
from tests.support.paths import ROOT

NETS = """
import pathlib
from os import system
import torch
from torch import nn
pathlib.Path(__file__).with_name("imported").touch()

def small(facts):
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module.features = 8
    return module

def broken(facts):
    raise RuntimeError("no such\\nlayer")

def leaves_python(facts):
    raise SystemExit(3)

def silent(facts):
    return nn.Flatten()

def wrong(facts):
    module = small(facts)
    module.features = 9
    return module

def otherwise(facts):
    module = small(facts)
    module[0].weight.data = torch.rand(module[0].weight.shape, generator=torch.Generator().manual_seed(id(module)))
    return module

def infinite(facts):
    module = small(facts)
    module[0].weight.data.fill_(float("inf"))
    return module
"""
DATA = """
import numpy as np

def leaves(**other):
    draw = np.random.default_rng(0)
    def some(count):
        labels = np.arange(count) % 3
        bright = (80 * labels).astype(np.uint8)[:, None, None, None]
        return draw.integers(0, 80, (count, 16, 16, 3), np.uint8) + bright, labels
    return {"classes": ["ash", "elm", "oak"], "train": some(60), "test": some(30), "mirror": False} | other
"""
SWEEP = """
name = "own"
[defaults]
epochs = 1
batch_size = 16
[defaults.data]
source = "mylab.data:leaves"
holdout_images = 12
[defaults.model]
source = "mylab.nets:small"
weights = "random"
[[trials]]
name = "a"
"""


@pytest.fixture
def lab(tmp_path, monkeypatch, no_leaving):
    """A sweep file with the package `mylab` beside it, and a cache and a storage of its own."""
    (tmp_path / "mylab").mkdir()
    for name, code in (("__init__", ""), ("nets", NETS), ("data", DATA)):
        (tmp_path / f"mylab/{name}.py").write_text(code)
    (tmp_path / "own.toml").write_text(SWEEP)
    monkeypatch.setenv("RAYCIFAR_CACHE", str(tmp_path / "cache"))
    before = set(sys.modules)
    yield tmp_path
    user_code.allow((), tmp_path)
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mylab", "nets", "lone"):
            del sys.modules[name]


def call(lab, *more, where=("--local",)):
    storage = str(lab / "results")
    return run_sweep.main([str(lab / "own.toml"), *where, "--gpus", "0", "--storage", storage, *more])


def imported(lab):
    return (lab / "mylab/imported").exists() or any(name.partition(".")[0] == "mylab" for name in sys.modules)


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--code", "json")])
def test_a_sweep_file_alone_imports_nothing(lab, capfd, more):
    before = everything(lab)
    assert call(lab, *more) == 2
    assert (
        'data.source = "mylab.data:leaves" runs Python code: type --code mylab if you trust it'
        in capfd.readouterr().err
    )
    assert not imported(lab)
    assert everything(lab) == before


def test_own_data_and_an_own_network_train_resume_and_are_analysed_without_their_code(lab, capfd):
    assert call(lab, "--code", "mylab") == 0
    folder = lab / "results/own"
    record = json.loads((folder / "sweep.json").read_text())
    assert record["code"] == user_code.digests()
    assert record["facts"]["classes"] == ["ash", "elm", "oak"]

    # The analysis and load_model import nothing.
    small = sys.modules["mylab.nets"].small
    user_code.allow((), lab)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]
    (lab / "mylab/imported").unlink()
    assert analyze.main([str(folder)]) == 0
    assert "mylab.nets:small trained on leaves" in " ".join(capfd.readouterr().out.split())
    with pytest.raises(ResultsError, match=r"mylab\.nets:small, which nothing here imports: .* network=\.\.\.\)"):
        load_model(folder)
    assert not imported(lab)
    model = load_model(folder, network=small)
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    assert model.predict(images).shape == (2, 3)
    assert model.classes == ("ash", "elm", "oak")

    # Other code is refused, whatever is left to run.
    with (lab / "mylab/nets.py").open("a") as file:
        file.write("# another\n")
    before = everything(folder)
    assert call(lab, "--code", "mylab") == 2
    assert "own: its trials ran mylab with the SHA-256" in capfd.readouterr().err
    assert everything(folder) == before


@pytest.mark.ray
def test_rays_workers_run_the_code_that_the_call_allowed(lab):
    assert call(lab, "--code", "mylab", where=()) == 0
    assert (lab / "results/own/a/summary.json").exists()


REFUSED = {
    "broken": "RuntimeError: no such layer",
    "leaves_python": "SystemExit: 3",
    "silent": "gave Flatten, expected a Trunk, or an nn.Module whose attribute `features`",
    "wrong": "on two images of 32 pixels a side: RuntimeError",
    "otherwise": "one seed gave two networks",
    "infinite": "its answers to two images are not finite",
    "absent": "mylab.nets has no function absent",
    "system": "system is not defined in mylab: write a function there that calls it",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_does_not_work_is_refused_before_anything_starts(lab, make_trial, name):
    user_code.allow(["mylab"], lab)
    trial = make_trial(model={"weights": "random", "source": f"mylab.nets:{name}"})
    with pytest.raises(CodeError) as refused:
        check_own(trial, build_network)
    assert str(refused.value).startswith(f'model.source = "mylab.nets:{name}"')
    assert REFUSED[name] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_network_that_works_is_accepted_and_its_trunk_keeps_its_weights(lab, make_trial):
    user_code.allow(["mylab"], lab)
    trial = make_trial(model={"weights": "random", "source": "mylab.nets:small", "train": "head"})
    check_own(trial, build_network)
    one, other = (build_network(trial.model, CIFAR10, seed) for seed in (1, 2))
    assert not one.features[0].weight.equal(other.features[0].weight)
    assert not one.features[0].weight.requires_grad
    assert one.head[-1].weight.requires_grad


GIVEN = {
    "train=1": "train: expected a pair of images and labels",
    "classes=['ash', 'elm']": "train: labels from 0 to 2, and 2 classes",
    "classes=['ash', 'elm', 'oak', 'yew']": "class 'yew' has no training images",
    "train=(np.zeros((6, 15, 15, 3), np.uint8), np.arange(6) % 3)": "train: images have 15 pixels a side",
    "train=(np.zeros((6, 16, 16, 3)), np.arange(6) % 3)": "train: images are float64 (6, 16, 16, 3), expected uint8",
    "train=(np.zeros((6, 16, 16, 3), np.uint8), np.arange(5))": "train: labels are int64 (5,), expected whole numbers",
    "train=(np.zeros((6, 16, 16, 3), np.uint8), np.ones(6))": "train: labels are float64 (6,), expected whole numbers",
    "train=(np.zeros((6, 8, 8, 3), np.uint8), np.arange(6) % 3)": "the images of train and test differ in size",
    "train=leaves()['test']": "30 test images equal a training image, pixel by pixel",
    "val=1": "gave 'val', which means nothing here; known: classes,",
    "mirror=1": "mirror: Input should be a valid boolean",
}


@pytest.mark.parametrize("wrong", GIVEN)
def test_data_that_cannot_be_used_are_refused(lab, wrong):
    with (lab / "mylab/data.py").open("a") as file:
        file.write(f"\ndef mine():\n    return leaves({wrong})\n")
    user_code.allow(["mylab"], lab)
    data = load_sweep(lab / "own.toml", ()).data.model_copy(update={"source": "mylab.data:mine"})
    with pytest.raises(CodeError) as refused:
        fetch_data(data)
    assert str(refused.value).startswith(f'data.source = "mylab.data:mine": {GIVEN[wrong]}')
    assert not list(lab.glob("cache/*.safetensors"))


def test_the_file_of_own_data_is_named_by_what_it_holds_classes_included(lab):
    user_code.allow(["mylab"], lab)
    data = load_sweep(lab / "own.toml", ()).data
    path = fetch_data(data)
    assert path == fetch_data(data)
    assert path.name == f"data-{metadata_on_file(path)['sha256'][:16]}.safetensors"
    with (lab / "mylab/data.py").open("a") as file:
        file.write("\ndef renamed():\n    return leaves(classes=['ash', 'elm', 'yew'])\n")
    del sys.modules["mylab.data"], sys.modules["mylab"]
    assert fetch_data(data.model_copy(update={"source": "mylab.data:renamed"})) != path


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("nothing_there", "no nothing_there.py and no nothing_there/__init__.py in"),
        ("nets.py", "--code nets.py: no such file in"),
        ("mylab.nets", "a function's package is allowed as a whole, as --code mylab"),
        ("../mylab", "expected a module's name"),
        ("sys", "and no installed module in Python of that name"),
    ],
)
def test_code_that_is_not_there_is_refused(lab, capfd, code, line):
    assert call(lab, "--code", code) == 2
    assert line in capfd.readouterr().err
    assert not imported(lab)


def test_a_file_beside_the_sweep_file_is_allowed_by_its_name(lab, make_trial):
    (lab / "lone.py").write_text(NETS)
    user_code.allow(["lone.py"], lab)
    check_own(make_trial(model={"weights": "random", "source": "lone:small"}), build_network)


def test_a_module_does_not_take_the_place_of_pythons_own(lab):
    (lab / "json.py").write_text("def small(facts): ...")
    user_code.allow(["json.py"], lab)
    with pytest.raises(CodeError, match=r"--code json: Python has another module of that name: rename json\.py"):
        user_code.function("json:small", "model.source", "raycifar.networks")


def test_an_entry_point_is_a_name_for_a_function_that_must_be_allowed_too(lab, monkeypatch):
    (lab / "lab-1.dist-info").mkdir()
    (lab / "lab-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1\n")
    (lab / "lab-1.dist-info/entry_points.txt").write_text("[raycifar.networks]\nleaf-net = mylab.nets:small\n")
    monkeypatch.syspath_prepend(str(lab))
    with pytest.raises(CodeError, match=r'model\.source = "leaf-net" runs Python code: type --code mylab if you'):
        user_code.function("leaf-net", "model.source", "raycifar.networks")
    assert not imported(lab)
    user_code.allow(["mylab"], lab / "nowhere")
    assert isinstance(user_code.function("leaf-net", "model.source", "raycifar.networks")(CIFAR10), nn.Module)
    with pytest.raises(CodeError, match=r"no entry point of raycifar\.networks \(there are leaf-net\)"):
        user_code.function("other", "model.source", "raycifar.networks")


def test_a_worker_runs_what_its_caller_allowed_and_no_other_code(lab):
    user_code.allow(["mylab"], lab)
    allowed = json.loads(json.dumps(user_code.allowed()))
    user_code.allow((), lab)
    user_code.allow_as(allowed)
    assert user_code.function("mylab.nets:small", "model.source", "raycifar.networks")(CIFAR10).features == 8
    (lab / "mylab/nets.py").write_text(NETS + "#")
    with pytest.raises(CodeError, match="mylab is not the code with which this call began"):
        user_code.allow_as(allowed)
    with pytest.raises(CodeError, match="type --code mylab"):
        user_code.function("mylab.nets:small", "model.source", "raycifar.networks")


def test_code_that_has_changed_since_it_was_imported_is_not_taken_for_what_it_is_now(lab):
    user_code.allow(["mylab"], lab)
    user_code.function("mylab.nets:small", "model.source", "raycifar.networks")
    user_code.allow(["mylab"], lab)
    user_code.function("mylab.nets:small", "model.source", "raycifar.networks")
    (lab / "mylab/nets.py").write_text(NETS + "#")
    user_code.allow(["mylab"], lab)
    with pytest.raises(CodeError, match="mylab has changed since this process imported it: restart it"):
        user_code.function("mylab.nets:small", "model.source", "raycifar.networks")


def test_an_entry_point_with_a_built_in_name_is_not_what_is_built_in(lab, monkeypatch):
    (lab / "lab-1.dist-info").mkdir()
    (lab / "lab-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1\n")
    (lab / "lab-1.dist-info/entry_points.txt").write_text("[raycifar.data]\ncifar10 = mylab.data:leaves\n")
    monkeypatch.syspath_prepend(str(lab))
    user_code.allow(["mylab"], lab)
    known = known_facts(Data(source="cifar10"))
    assert known.name not in BUILT_IN
    assert known.file_name.startswith("data-")


@pytest.mark.parametrize("source", ["mylab", "mylab.nets:small", "leaf-net"])
def test_a_source_is_the_same_data_and_network_for_the_fingerprint_and_none_changes_nothing(make_trial, source):
    plain = make_trial()
    assert make_trial(model={"weights": "random", "source": ""}).fingerprint() == plain.fingerprint()
    assert make_trial(model={"weights": "random", "source": source}).fingerprint() != plain.fingerprint()


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ({"source": "a b"}, "should match pattern"),
        ({"source": "os:system('x')"}, "should match pattern"),
        ({"source": "mylab.nets:small", "name": "vgg11"}, "exclude each other: drop one"),
        ({"source": "mylab.nets:small", "weights": "imagenet"}, "leave out batch_norm, and set weights"),
        ({"source": "mylab.nets:small", "batch_norm": True}, "leave out batch_norm, and set weights"),
    ],
)
def test_a_source_that_is_none_and_settings_without_effect_are_refused(make_trial, model, line):
    with pytest.raises(ValueError, match=line):
        make_trial(model={"weights": "random"} | model)


def job(folder):
    """What a process of Ray's gets, as it travels."""
    plain = {"data": "", "imagenet": None, "others": {}, "workers": 1, "gpus_per_worker": 0.0, "cpus_per_worker": 1.0}
    return Job(folder=str(folder), code=user_code.allowed(), threads=1, hang_seconds=1, **plain)


@pytest.fixture
def shared(lab, tmp_path):
    """A call's job, with its code in the results' folder and nowhere else."""
    (tmp_path / "results").mkdir()
    user_code.allow(["mylab"], lab)
    share_code(tmp_path / "results")
    made = job(tmp_path / "results")
    user_code.allow((), lab)
    (lab / "mylab").rename(lab / "elsewhere")
    return made


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "another version"])
def test_a_node_without_the_code_takes_it_from_the_results_folder(shared, lab, there):
    if there != "nothing":
        (lab / "mylab").mkdir()
    if there == "another version":
        (lab / "mylab/__init__.py").write_text("raise SystemExit")
    for _ in range(2):  # trials of one process
        shared.allow_code()
        assert user_code.function("mylab.nets:small", "model.source", "raycifar.networks")(CIFAR10).features == 8


def replaced(file, members):
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def damaged():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("nets.py", "x = 1\n" * 100)
    return file.getvalue().replace(b"nets.py\xab", b"nets.py\xff", 1)  # where the compressed text begins


OTHER = {
    "other code": ({"mylab/__init__.py": "", "mylab/nets.py": "raise SystemExit"}, "not the code with which this call"),
    "a member outside": ({"../mylab/nets.py": ""}, "lies outside"),
    "an absolute member": ({"/mylab/nets.py": ""}, "lies outside"),
    "no archive": (b"no archive", "cannot be unpacked"),
    "damaged": (damaged(), "cannot be unpacked"),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_lies_in_the_results_folder_is_not_believed_for_itself(shared, case):
    members, line = OTHER[case]
    file = Path(shared.folder) / "code.zip"
    if isinstance(members, bytes):
        file.write_bytes(members)
    else:
        replaced(file, members)
    with pytest.raises(CodeError, match=line):
        shared.allow_code()
    with pytest.raises(CodeError, match="type --code mylab"):
        user_code.function("mylab.nets:small", "model.source", "raycifar.networks")


def unpacked_code():
    return set(Path(tempfile.gettempdir()).glob("raycifar-code-*"))


def test_what_a_worker_unpacked_is_gone_at_its_end(shared):
    before = unpacked_code()
    shared.allow_code()
    assert len(unpacked_code() - before) == 1
    shared_code.forget()
    assert unpacked_code() <= before


def test_code_of_another_user_is_taken_from_the_results_folder(shared, monkeypatch):
    def is_file(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_file", is_file)
        assert not user_code.lies_here(shared.code[0])


def test_modules_that_are_too_large_together_are_refused_before_anything_trains(lab, tmp_path, monkeypatch):
    user_code.allow(["mylab"], lab)
    monkeypatch.setattr(shared_code, "MOST_BYTES", 10)
    with pytest.raises(CodeError, match="more than 0 MB of source together"):
        share_code(tmp_path)
    assert list(tmp_path.glob("code.zip")) == []


def test_without_code_nothing_is_put_into_the_results_folder(tmp_path):
    user_code.allow((), tmp_path)
    share_code(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
@pytest.mark.chaos
@pytest.mark.skipif(subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0, reason="no namespaces here")
def test_a_node_of_a_joined_cluster_that_lacks_the_code_trains_with_it(lab, tmp_path):
    """The only node with a core sees an empty folder in the place of the code's."""
    home, results = tmp_path / "home", tmp_path / "results"
    home.mkdir()
    env = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAYCIFAR_CACHE": str(tmp_path / "cache")}
    start = [sys.executable, "-m", "tests.support.other_nodes", "--hidden", str(lab / "mylab")]
    with subprocess.Popen(start, cwd=ROOT, env=env, stdin=-1, stdout=-1, text=True) as nodes:
        address = nodes.stdout.readline().strip()
        call = [
            sys.executable,
            str(ROOT / "run_sweep.py"),
            str(lab / "own.toml"),
            "--code=mylab",
            f"--address={address}",
        ]
        call += ["--gpus=0", f"--storage={results}"]
        done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False)
        nodes.communicate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (results / "own/a/summary.json").exists()
    assert (results / "own/code.zip").exists()
