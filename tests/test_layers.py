"""Who may import whom: each half from the bottom to the top, and a room imports only rooms below it."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import raycifar

ROOT = Path(__file__).parent.parent
SHARED = ["inputs", "records", "spec", "sweep_file", "search_records", "search_spec", "cache", "command_line"]
TRAINING = [
    "gpu_memory",
    "placement",
    "assets",
    "data",
    "trivialaugment",
    "augment",
    "convolution",
    "norm_kernels",
    "norm",
    "vgg",
    "muon",
    "optim",
    "step",
    "energy",
    "training",
    "checkpoints",
    "writer",
    "trial",
    "sharing",
    "leaving",
    "watchdog",
    "overview",
    "live_table",
    "progress",
    "events",
    "tensorboard",
    "trackers",
    "ray_metrics",
    "ray_mlflow",
    "ray_wandb",
    "ray_runner",
    "workspace",
    "sweep",
    "search_trial",
    "ray_search",
    "search_table",
    "search",
]
ANALYSIS = [
    "traces",
    "results",
    "stats",
    "predictions",
    "tables",
    "class_tables",
    "cost_tables",
    "milestones",
    "plotting",
    "time_figures",
    "band_figures",
    "class_figures",
    "figures",
    "reference",
    "comparison",
    "findings",
    "report",
    "differences",
    "paired_sweeps",
    "side_by_side",
    "formats",
]
LIBRARY = ["models", "export", "library"]  # above both halves: what a sweep left, with PyTorch
HALVES = [[*SHARED, *TRAINING], [*SHARED, *ANALYSIS]]
ROOMS = [*SHARED, *TRAINING, *ANALYSIS, *LIBRARY]
COMMANDS = ["run_sweep", "analyze"]
FOLDERS_AND_FILES = {"io", "json", "os", "pathlib", "pickle", "safetensors", "shutil", "tempfile"}


def imported(code):
    """Every module that the code imports, at its top or inside functions, with what it takes from it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute, so that they can be read here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def source(name):
    return (ROOT / (f"{name}.py" if name in COMMANDS else f"raycifar/{name}.py")).read_text()


@cache
def imports(name):
    """The rooms that a room or command imports, and the top names of everything else."""
    parts = [module.split(".") for module in imported(source(name))]
    rooms = {part[1] for part in parts if part[0] == "raycifar" and len(part) > 1}
    return rooms, {part[0] for part in parts} - {"raycifar"}


def reached(name):
    """All that a room or command imports, also through other rooms; but what `analyze.py --export` alone needs."""
    rooms, others = imports(name)
    for room in rooms & set(ROOMS) - ({"export"} if name == "analyze" else set()):
        others = others | reached(room)
    return others


def test_the_table_holds_every_room_and_no_other():
    found = {path.relative_to(ROOT / "raycifar").as_posix() for path in (ROOT / "raycifar").rglob("*.py")}
    assert found - {"__init__.py"} == {f"{room}.py" for room in ROOMS}


def test_importing_the_package_imports_no_room():
    code = "import sys, raycifar; print(*sorted(m for m in sys.modules if m.startswith('raycifar')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["raycifar"]


def test_the_package_offers_what_type_checkers_see_and_no_more():
    (block,) = (node for node in ast.parse(source("__init__")).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {name.rpartition(".")[2]: name for name in imported(ast.unparse(block))}
    assert seen == {name: f"raycifar.{room}.{name}" for name, room in raycifar._ROOMS.items()}
    assert sorted(seen) == raycifar.__all__


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    orders = HALVES if room not in LIBRARY else [ROOMS]
    below = {other for order in orders if room in order for other in order[: order.index(room)]}
    assert imports(room)[0] <= below


@pytest.mark.parametrize("name", ROOMS + COMMANDS)
def test_only_rooms_that_are_called_so_import_ray(name):
    assert ("ray" in imports(name)[1]) == name.startswith("ray_")


@pytest.mark.parametrize("room", [room for room in ROOMS if "search" in room])
def test_no_room_of_a_search_can_load_test_images_or_test_a_trial(room):
    taken = set(imported(source(room)))
    assert not taken & {"raycifar.data.load_cifar10", "raycifar.data", "raycifar.trial"}
    assert not any(part.startswith("safetensors") for part in taken)
    of_trials = {part for part in taken if part.startswith("raycifar.trial.")}
    harmless = ("Assets", "Place", "network", "set_up_torch", "trial_error")
    assert of_trials <= {f"raycifar.trial.{name}" for name in harmless}
    assert not any(part.startswith("raycifar.sweep.run") for part in taken)


@pytest.mark.parametrize("name", [*SHARED, *ANALYSIS, "analyze"])
def test_analysis_reaches_neither_torch_nor_ray_nor_pickle(name):
    assert not reached(name) & {"torch", "torchvision", "ray", "pickle"}


def test_analysis_reads_safetensors_in_one_room_alone():
    assert [name for name in [*SHARED, *ANALYSIS, "analyze"] if "safetensors" in imports(name)[1]] == ["predictions"]


@pytest.mark.parametrize(("command", "half"), [("run_sweep", HALVES[0]), ("analyze", [*HALVES[1], "export"])])
def test_a_command_imports_only_its_half(command, half):
    assert imports(command)[0] <= set(half)


def test_only_the_export_function_of_analyze_imports_export():
    functions = [node for node in ast.parse(source("analyze")).body if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if "raycifar.export" in "".join(imported(ast.unparse(f)))] == ["export"]


@pytest.mark.parametrize("name", ROOMS + COMMANDS)
def test_no_import_hides_from_this_table(name):
    assert "import_module" not in source(name)
    assert "__import__" not in source(name)


def test_training_knows_no_files_no_ray_and_no_network():
    rooms, others = imports("training")
    assert not rooms & {"vgg", "assets", "checkpoints", "trial", "ray_runner"}
    assert not others & {*FOLDERS_AND_FILES, "ray", "torchvision"}
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(source("training"))) if isinstance(node, ast.Call)}
    assert not called & {"open", "torch.save", "torch.load"}


@pytest.mark.parametrize("room", ["placement", "records"])
def test_the_arithmetic_and_the_records_need_the_standard_library_alone(room):
    assert imports(room)[1] <= sys.stdlib_module_names


def test_imports_inside_functions_count():
    code = "import a.b\ndef f():\n    from c.d import e\n    if f:\n        import g as h\n"
    assert list(imported(code)) == ["a.b", "c.d.e", "g"]
