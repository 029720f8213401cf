"""The benchmarks' arithmetic and tables, that all contenders train the same network, and one real run at tiny size."""

import ast
import json
import subprocess
import sys
import time
from argparse import Namespace
from functools import partial
from itertools import islice

import psutil
import pytest
import torch
from torch import nn

from benchmarks import common, input, overhead, peers, recipes, scaling, steps
from benchmarks.arrangements import Costs
from benchmarks.ceiling import profile
from benchmarks.common import Measured, Table, markdown, publish, shown
from benchmarks.processes import Peak, watched
from benchmarks.turns import ContenderError, rounds
from raycifar.config.settings import Model
from raycifar.config.sweep_file import load_sweep
from raycifar.networks.cost import work
from raycifar.networks.vgg import IMAGENET_MEAN, IMAGENET_STD
from raycifar.training.trial import Assets
from tests.support.contenders import counting, failing
from tests.support.networks import build_vgg16
from tests.support.paths import ROOT, SAMPLE
from tests.support.sweep_folders import write_sweep

WHERE = {"command": "c", "at": "now", "machine": "m", "load": 0.1, "commit": "x", "versions": {"torch": "2"}}
VGG = load_sweep(ROOT / "sweeps" / "vgg.toml").trials


def test_a_figure_is_a_median_with_its_extremes():
    assert str(Measured((3.0, 1.0, 20.0))) == "3.00 (1.00 to 20.0)"
    assert [shown(value) for value in (1234.5, 12.345, 0.012345, 0.0)] == ["1,234", "12.3", "0.0123", "0"]


def test_a_ratio_is_taken_round_by_round_before_its_median():
    ours, other = Measured((10.0, 4.0, 3.0)), Measured((5.0, 1.0, 3.0))
    assert ours.over(other).values == (2.0, 4.0, 1.0)
    assert other.beside(ours) == ours.over(other)
    assert ours.beside(ours) == ""


TABLE = Table("T", ("", "s"), [("a", Measured((1.0, 2.0, 3.0))), ("b", 1_000)], "Note.")


def test_every_table_says_how_often_it_was_measured():
    assert TABLE.caption == "Note. Medians of n = 3, in brackets the smallest and the largest."
    assert Table("T", ("",), [("a",)]).caption == ""


def test_the_markdown_holds_command_machine_versions_and_the_table():
    text = markdown(WHERE, [TABLE])
    assert text.startswith(
        "`c`\n\nm, load 0.1 at the start, now, commit x; torch 2.\n\n**T**\n\n|  | s |\n| --- | ---: |"
    )
    assert "| a | 2.00 (1.00 to 3.00) |\n| b | 1,000 |\n\nNote. Medians of n = 3" in text


@pytest.mark.parametrize("as_markdown", [True, False])
def test_json_holds_every_value_of_every_round(tmp_path, capsys, as_markdown):
    publish(Namespace(markdown=as_markdown, json=tmp_path / "f.json"), WHERE, [TABLE])
    (table,) = json.loads((tmp_path / "f.json").read_text())["tables"]
    assert table["rows"][0][1] == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3, "values": [1.0, 2.0, 3.0]}
    assert "2.00 (1.00 to 3.00)" in capsys.readouterr().out


def test_the_command_on_record_is_the_one_that_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/benchmarks/steps.py", "--rounds", "2"])
    assert common.surroundings()["command"] == "python -m benchmarks.steps --rounds 2"


BAD = {
    "no rounds": (steps, ["--rounds", "0"], "expected a whole number from 1 up"),
    "a folder that is not there": (input, ["--json", "/nowhere/f.json"], "expected a file in a folder that is there"),
    "one step": (steps, ["--steps", "1"], "type 2 or more"),
    "an unknown peer": (steps, ["--only", "JAX"], "invalid choice"),
}


@pytest.mark.parametrize(("module", "arguments", "remedy"), BAD.values(), ids=BAD)
def test_bad_arguments_are_refused_before_anything_is_measured(module, arguments, remedy, capsys):
    with pytest.raises(SystemExit) as refused:
        module.main(arguments)
    assert refused.value.code == 2
    assert remedy in capsys.readouterr().err


def test_images_that_are_no_multiple_of_the_classes_are_refused(capsys):
    assert overhead.main(["--images", "7"]) == 2
    assert "multiple of the 10 classes" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_named_with_the_remedy(monkeypatch, capsys):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert steps.main(["--only", "PyTorch", "Lightning"]) == 2
    assert "not installed: lightning: pip install -e '.[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("pipeline", input.PIPELINES)
def test_every_input_pipeline_gives_normalised_batches_of_the_training_images(pipeline, train_images):
    first, *_, last = islice(input.PIPELINES[pipeline](train_images), 4)  # beyond the sample's 320 images: a new epoch
    assert (first.shape[1:], first.dtype, last.shape[1:]) == ((3, 32, 32), torch.float32, (3, 32, 32))
    assert abs(first.mean().item()) < 0.5
    assert 0.5 < first.std().item() < 1.5


def test_images_a_cpu_second_do_not_count_the_time_asleep():
    def asleep():
        while True:
            time.sleep(0.05)
            yield torch.zeros(10)

    assert input.rate(asleep(), 100) > 100 / (10 * 0.05) * 1.5


@pytest.fixture(scope="module")
def ours():
    return build_vgg16(Model(weights="random"), seed=1).eval()


@pytest.fixture(scope="module")
def trunk(ours):
    return {f"features.{name}": weight for name, weight in ours.features.state_dict().items()}


def features_of_ours(ours, images, mean, std):
    pixels = images.float() / 255
    scaled = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return scaled, ours.features(scaled).flatten(1)


def test_the_torch_peers_train_the_same_network(ours, trunk, train_images):
    scaled, features = features_of_ours(ours, train_images.images[:4], IMAGENET_MEAN, IMAGENET_STD)
    theirs = peers.torch_vgg16(trunk)
    torch.testing.assert_close(theirs[:2](scaled), features)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())


@pytest.mark.slow
def test_the_keras_peer_trains_the_same_network(ours, trunk, train_images):
    keras = pytest.importorskip("keras")
    pytest.importorskip("tensorflow")
    scaled, features = features_of_ours(ours, train_images.images[:4], IMAGENET_MEAN, IMAGENET_STD)
    theirs = peers.keras_vgg16(keras, trunk)
    kernel, bias = ours.head[-1].weight.detach(), ours.head[-1].bias.detach()
    theirs.layers[-1].set_weights([kernel.T.numpy(), bias.numpy()])
    given = torch.tensor(theirs(scaled.permute(0, 2, 3, 1).numpy()).numpy())
    torch.testing.assert_close(given, features @ kernel.T + bias, rtol=1e-3, atol=1e-4)


class Ended(Exception):  # noqa: N818
    pass


class OneTurn:
    """Takes a turn's figures and ends the contender."""

    def end(self, figures):
        self.figures = figures
        raise Ended


def test_a_peers_first_step_is_not_timed():
    setting = steps.Setting(steps=3, batch_size=100, threads=1, loader_workers=0, assets=Assets(SAMPLE, None))
    turn = OneTurn()
    after_step = steps.Stopwatch(turn, setting)
    time.sleep(0.3)
    after_step(3.0)
    after_step(2.0)
    time.sleep(0.1)
    with pytest.raises(Ended):
        after_step(1.0)
    assert turn.figures["loss"] == 1.0
    assert 100 * 2 / 0.3 < turn.figures["rate"] <= 100 * 2 / 0.1


def test_the_plain_loop_trains_and_lowers_its_loss(trunk, train_images):
    losses = []

    def after_step(loss):
        losses.append(loss)
        if len(losses) == 3:
            raise Ended

    few = train_images.take(torch.arange(8))
    with pytest.raises(Ended):
        peers.plain(peers.Work(few, trunk, 8, torch.device("cpu"), 1, 0), after_step)
    assert losses[-1] < losses[0]


def test_a_contender_that_learnt_nothing_is_named_and_fails_the_run(capsys):
    learnt = [{"loss": 2.0}, {"loss": 1.0}]
    assert steps.all_learnt({"raycifar": learnt, "ceiling": [{}, {}]}) == 0
    assert steps.all_learnt({"raycifar": learnt, "Keras": [{"loss": 2.3}, {"loss": float("nan")}]}) == 1
    assert capsys.readouterr().err.strip().endswith("did not fall: Keras")


def test_the_profile_shares_out_the_epochs_seconds():
    layer, images = nn.Conv2d(3, 8, 3), torch.randn(16, 3, 32, 32)

    def epoch():
        layer(images).relu().sum().backward()
        time.sleep(0.2)

    shares = profile(epoch, torch.device("cpu"))
    assert {"convolution, forward", "convolution, backward", "ReLU"} <= set(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["between the operators"] > 0.5  # asleep


def test_a_trials_cost_is_its_start_its_epochs_and_its_test():
    trial = VGG[-1]  # 125 epochs of 45,000 and 5,000 images, and a test of 10,000 twice
    assert Costs(start=7, train=2, val=1).of(trial) == 7 + 125 * (45_000 * 2 + 5_000) + 20_000


def test_the_predicted_makespan_is_the_longest_trials_once_there_are_gpus_enough():
    second = Costs(start=0, train=1 / 45_000, val=0)  # an epoch takes a second
    table = scaling.predicted_table(VGG, {"transfer": [second], "scratch": [second]})
    assert [row[0] for row in table.rows] == ["1", "2", "4", "8"]
    assert [3600 * row[1].median for row in table.rows] == pytest.approx([170, 125, 125, 125])
    assert [row[3].median for row in table.rows] == pytest.approx([0, 32, 66, 83])


def test_the_longest_of_the_trials_that_run_comes_first():
    shorts = [scaling.Short(trial, 1, 16, 1, Assets(SAMPLE, None)) for trial in VGG]
    assert [short.trial.name for short in scaling.in_order(shorts)][:2] == ["scratch", "transfer-1"]
    assert work(shorts[-1].trial) > work(shorts[0].trial)


def test_a_sweeps_seconds_are_all_accounted_for(tmp_path):
    folder = write_sweep(tmp_path / "tiny", {"transfer": (1, 2), "scratch": (1, 3)}, lanes=1)
    (call,) = folder.invocations()
    run = overhead.read_run(folder, call.started_at - 10, call.ended_at + 4, Peak())
    assert run.wall == pytest.approx(sum(run.parts.values()))
    assert run.parts["before the sweep (imports, ray.init, plan)"] == 10
    assert run.parts["training"] == 5 * 25
    assert run.first_step == pytest.approx(10 + 20 + 12)


@pytest.mark.slow
def test_the_bare_loop_trains_and_tests_the_same_trial(make_trial):
    threads, spec = torch.get_num_threads(), make_trial(epochs=1)
    before = time.time()
    began, ended = overhead.bare_trial(spec, Assets(SAMPLE, None), threads)
    assert before < began < ended <= time.time()


def test_processes_memory_and_cpu_seconds_are_those_of_the_children():
    before = len(psutil.Process().children(recursive=True))
    busy = "import time; a = b'x' * 10**8\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.9)"
    with watched() as peak:
        subprocess.run([sys.executable, "-c", busy], check=True)
    assert peak.processes == before + 1
    assert peak.memory > 1e8
    assert 0.4 < peak.cpu_seconds < 5


def test_contenders_take_turns_in_processes_of_their_own_and_keep_their_state():
    found = rounds({"a": partial(counting, 0), "b": partial(counting, 10)}, 2)
    assert found == {name: [{"count": start + i} for i in (1, 2, 3)] for name, start in (("a", 0), ("b", 10))}


def test_a_contender_that_ends_before_its_time_is_an_error(capfd):
    with pytest.raises(ContenderError):
        rounds({"failing": failing}, 1)
    assert "the contender's own error" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.assets
def test_steps_measures_ours_and_the_plain_loop_in_one_run(tmp_path, capsys):
    tiny = ["--rounds", "1", "--steps", "2", "--batch-size", "4", "--threads", "1", "--loader-workers", "0"]
    assert steps.main([*tiny, "--only", "PyTorch", "--json", str(tmp_path / "f.json")]) in (0, 1)  # one may not learn
    training, ceiling, operators = json.loads((tmp_path / "f.json").read_text())["tables"]
    assert [row[0] for row in training["rows"]] == ["raycifar", "PyTorch"]
    assert all(row[1]["median"] > 0 for row in [*training["rows"], *ceiling["rows"]])
    assert "convolution, backward" in {row[0] for row in operators["rows"]}


BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from names if names else [node.module] if isinstance(node, ast.ImportFrom) else []


def test_nothing_imports_a_benchmark_and_no_benchmark_imports_ray():
    product = [*(ROOT / "raycifar").rglob("*.py"), ROOT / "run_sweep.py", ROOT / "analyze.py"]
    assert not [path for path in product if any(name.startswith("benchmarks") for name in imported(path))]
    assert not [path for path in BENCHMARKS if any(name.split(".")[0] == "ray" for name in imported(path))]


def test_the_document_gives_the_command_of_every_benchmark():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    commands = {path.stem for path in BENCHMARKS if "__name__ ==" in path.read_text()} - {"__main__"}
    speed = {
        "steps",
        "input",
        "reading",
        "overhead",
        "scaling",
        "recipes",
        "whole",
        "checks",
        "bundle",
        "traffic",
        "networks",
    }
    assert commands == speed | {"coverage", "report"}
    assert {name for name in commands if f"python -m benchmarks.{name} " not in text} == set()


@pytest.mark.slow
def test_a_recipes_step_is_measured_beside_plain_sgds(make_trial):
    settings = {"batch_size": 4, "model": {"weights": "random", "batch_norm": True}}
    arms = [make_trial(**settings, arm=name, optimizer={"name": name}) for name in ("muon", "sgd")]
    found = recipes.measure(arms, Assets(SAMPLE, None), torch.device("cpu"), rounds=2, steps=1)
    assert list(found) == ["muon", "muon, SGD", "sgd"]
    assert all(len(cell.values) == 2 and min(cell.values) > 0 for cell in found.values())
    rows = recipes.recipes_table(arms, found, torch.device("cpu"), 1).rows
    assert rows[1][2].values == tuple(
        a / b for a, b in zip(found["muon"].values, found["muon, SGD"].values, strict=True)
    )
