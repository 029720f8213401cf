"""Who may import whom: packages from the bottom to the top, and inside a package no circle."""

import ast
import subprocess
import sys
from functools import cache

import pytest

import raycifar
from tests.support.paths import ROOT

# A package sees those to its left; `(analysis)` sees those to its left, too, and only what comes behind `|` sees it.
ORDER = "texts errors program devices storage config (analysis) user_code data networks training tracking execution search | trained_model export library commands __main__"  # noqa: E501
MAY_IMPORT_RAY = ("execution.ray_", "search.ray_search", "tracking.prometheus")
# Inside the analysis: what each part sees besides itself and, the statistics apart, the modules directly in analysis/.
PARTS = {
    "statistics": "",
    "": "statistics",
    "tables": "statistics",
    "figures": "statistics",
    "report": "statistics tables figures",
}

PACKAGES = ORDER.replace("(", "").replace(")", "").replace("| ", "").split()
FOLDERS_AND_FILES = {"io", "json", "os", "pathlib", "pickle", "safetensors", "shutil", "tempfile"}


(_OFFERS,) = (
    n for n in ast.parse((ROOT / "raycifar/__init__.py").read_text()).body if ast.unparse(n).startswith("_ROOMS =")
)
OFFERED = ast.literal_eval(_OFFERS.value)  # name: module


def below(package: str) -> set[str]:
    """The packages that this one may import: all to its left, and the analysis only from behind the bar on."""
    seen = set(PACKAGES[: PACKAGES.index(package)])
    return seen if package in ORDER.partition("|")[2].split() else seen - {"analysis"}


def modules() -> list[str]:
    """Every module of the package by its dotted name below `raycifar`; a package's own is its `__init__`."""
    paths = (ROOT / "raycifar").rglob("*.py")
    return sorted(".".join(path.relative_to(ROOT / "raycifar").with_suffix("").parts) for path in paths)


MODULES = [module for module in modules() if not module.endswith("__init__")]


def imported(code):
    """Every module that the code imports, at its top or inside functions, with what it takes from it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute, so that they can be read here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def source(name):
    return (ROOT / f"raycifar/{name.replace('.', '/')}.py").read_text()


@cache
def imports(name):
    """The modules of the package that a module or command imports, and the top names of everything else."""
    taken = list(imported(source(name)))
    ours = {module for module in MODULES for part in taken if f"{part}.".startswith(f"raycifar.{module}.")}
    offered = {part.split(".")[1] for part in taken if part.startswith("raycifar.")} & set(OFFERED)
    return ours | {OFFERED[name] for name in offered}, {part.split(".")[0] for part in taken} - {"raycifar"}


def reached(name, seen=None):
    """All else that a module or command imports, also through others; but what `analyze.py --export` alone needs."""
    seen = set() if seen is None else seen
    ours, others = imports(name)
    for module in ours - seen - ({"export"} if name.endswith("analyze") else set()):
        seen.add(module)
        others = others | reached(module, seen)
    return others


def package(module):
    return module.split(".")[0]


def test_every_module_is_in_a_package_of_the_order():
    assert {package(module) for module in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_its_own_package_and_those_below(module):
    assert {package(other) for other in imports(module)[0]} <= below(package(module)) | {package(module)}


ANALYSIS = [module for module in MODULES if package(module) == "analysis"]


def part(module):
    """The part of the analysis that a module is in; empty for those directly in analysis/."""
    return "".join(module.split(".")[1:-1])


def test_every_part_of_the_analysis_is_in_the_table():
    assert {part(module) for module in ANALYSIS} == set(PARTS)


@pytest.mark.parametrize("module", ANALYSIS)
def test_inside_the_analysis_imports_point_one_way(module):
    inside = {part(other) for other in imports(module)[0] if package(other) == "analysis"}
    below = set() if part(module) == "statistics" else {""}
    assert inside <= {part(module), *PARTS[part(module)].split(), *below}


def test_no_modules_import_each_other_in_a_circle():
    import graphlib

    graphlib.TopologicalSorter({module: imports(module)[0] for module in MODULES}).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_only_those_that_are_named_import_ray(module):
    assert ("ray" in imports(module)[1]) <= module.startswith(MAY_IMPORT_RAY)


def test_importing_the_package_imports_no_module():
    code = "import sys, raycifar; print(*sorted(m for m in sys.modules if m.startswith('raycifar')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["raycifar"]


def test_the_package_offers_what_type_checkers_see_and_no_more():
    (block,) = (node for node in ast.parse(source("__init__")).body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    seen = {name.rpartition(".")[2]: name for name in imported(ast.unparse(block))}
    assert seen == {name: f"raycifar.{module}.{name}" for name, module in OFFERED.items()}
    assert sorted(seen) == raycifar.__all__


@pytest.mark.parametrize("module", [module for module in MODULES if package(module) == "search"])
def test_no_module_of_a_search_can_load_test_images_or_test_a_trial(module):
    taken = set(imported(source(module)))
    assert not taken & {"raycifar.data.splits.load_splits", "raycifar.data.splits", "raycifar.training.trial"}
    assert not any(part.startswith("safetensors") for part in taken)
    of_trials = {part for part in taken if part.startswith("raycifar.training.trial.")}
    harmless = ("Assets", "Place", "network", "set_up_torch", "trial_error")
    assert of_trials <= {f"raycifar.training.trial.{name}" for name in harmless}
    assert not any(part.startswith("raycifar.execution.sweep.run") for part in taken)


@pytest.mark.parametrize("module", [*ANALYSIS, "commands.analyze"])
def test_analysis_reaches_neither_torch_nor_ray_nor_pickle(module):
    assert not reached(module) & {"torch", "torchvision", "ray", "pickle"}


def test_errors_devices_storage_and_config_are_imported_without_torch():
    """Also through other packages, which an import tells and a look at the source does not. `devices` asks it later."""
    lower = [f"raycifar.{m}" for m in MODULES if package(m) in ("errors", "devices", "storage", "config")]
    code = f"import sys, {', '.join(lower)}; print(*{{'torch', 'torchvision', 'ray'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", [m for m in MODULES if package(m) in ("errors", "storage", "config")])
def test_errors_storage_and_config_never_import_torch(module):
    assert not reached(module) & {"torch", "torchvision", "ray"}


def test_analysis_reads_safetensors_in_one_module_alone():
    readers = [module for module in ANALYSIS if "safetensors" in imports(module)[1]]
    assert readers == ["analysis.predictions"]


def test_only_the_export_function_of_analyze_imports_export():
    functions = [node for node in ast.parse(source("commands.analyze")).body if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if "raycifar.export" in "".join(imported(ast.unparse(f)))] == ["export"]


@pytest.mark.parametrize("module", MODULES)
def test_no_import_hides_from_this_table(module):
    of_users = module == "user_code"  # what it imports is no part of the package
    assert of_users or "import_module" not in source(module)
    assert "__import__" not in source(module)
    assert of_users or not {"spec_from_file_location", "exec_module"} & set(source(module).replace("(", " ").split())


def test_the_training_loop_knows_no_files_no_ray_and_no_network():
    ours, others = imports("training.loop")
    assert not {package(module) for module in ours} & {"networks", "storage", "execution"} - {"storage"}
    assert not ours & {"training.trial", "storage.checkpoints", "data.cifar10"}
    assert not others & {*FOLDERS_AND_FILES, "ray", "torchvision"}
    tree = ast.parse(source("training.loop"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"open", "torch.save", "torch.load"}


@pytest.mark.parametrize("module", ["execution.placement", "storage.records"])
def test_the_arithmetic_and_the_records_need_the_standard_library_alone(module):
    assert imports(module)[1] <= sys.stdlib_module_names


def test_imports_inside_functions_count():
    code = "import a.b\ndef f():\n    from c.d import e\n    if f:\n        import g as h\n"
    assert list(imported(code)) == ["a.b", "c.d.e", "g"]
