"""Who may import whom: each half from the bottom to the top, and a room imports only rooms below it."""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ["records", "spec"]
TRAINING = [
    "assets",
    "data",
    "augment",
    "vgg",
    "optim",
    "training",
    "checkpoints",
    "trial",
    "placement",
    "overview",
    "progress",
    "ray_runner",
    "workspace",
    "sweep",
]
ANALYSIS = [
    "traces",
    "results",
    "stats",
    "plotting",
    "time_figures",
    "figures",
    "tables",
    "reference",
    "comparison",
    "findings",
    "report",
]
HALVES = [[*SHARED, *TRAINING], [*SHARED, *ANALYSIS]]
ROOMS = [*SHARED, *TRAINING, *ANALYSIS]
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
    return (ROOT / (f"raycifar/{name}.py" if name in ROOMS else f"{name}.py")).read_text()


@cache
def imports(name):
    """The rooms that a room or command imports, and the top names of everything else."""
    parts = [module.split(".") for module in imported(source(name))]
    rooms = {part[1] for part in parts if part[0] == "raycifar" and len(part) > 1}
    return rooms, {part[0] for part in parts} - {"raycifar"}


def reached(name):
    """All that a room or command imports, also through other rooms."""
    rooms, others = imports(name)
    for room in rooms & set(ROOMS):
        others = others | reached(room)
    return others


def test_the_table_holds_every_room_and_no_other():
    found = {path.relative_to(ROOT / "raycifar").as_posix() for path in (ROOT / "raycifar").rglob("*.py")}
    assert found - {"__init__.py"} == {f"{room}.py" for room in ROOMS}


def test_importing_the_package_imports_no_room():
    assert not list(imported((ROOT / "raycifar/__init__.py").read_text()))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_below_it(room):
    below = {other for half in HALVES if room in half for other in half[: half.index(room)]}
    assert imports(room)[0] <= below


@pytest.mark.parametrize("name", ROOMS + COMMANDS)
def test_only_ray_runner_imports_ray(name):
    assert ("ray" in imports(name)[1]) == (name == "ray_runner")


@pytest.mark.parametrize("name", [*SHARED, *ANALYSIS, "analyze"])
def test_analysis_reaches_neither_torch_nor_ray_nor_pickle(name):
    assert not reached(name) & {"torch", "torchvision", "ray", "pickle", "safetensors"}


@pytest.mark.parametrize(("command", "half"), [("run_sweep", HALVES[0]), ("analyze", HALVES[1])])
def test_a_command_imports_only_its_half(command, half):
    assert imports(command)[0] <= set(half)


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
