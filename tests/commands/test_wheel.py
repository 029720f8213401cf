"""The package as a wheel, in an environment and a folder that know nothing of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT, SAMPLES, SWEEPS

pytestmark = pytest.mark.slow

NOT_BUILT_FROM = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "results")
PACKAGE = ROOT / "raycifar"


def run(*command, cwd, check=True):
    """A process that finds no package through this one's environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"HOME": str(cwd), "COLUMNS": "100"}
    return subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as a build leaves files beside what it builds. Nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_BUILT_FROM)
    options = ["--wheel", "--no-isolation", "--outdir", folder]
    done = run(sys.executable, "-m", "build", *options, folder / "source", cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(folder / "source")
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A new virtual environment with the wheel alone; this one lends it what the wheel depends on.

    A .pth file in a lent folder has no effect, so that an editable install there stays hidden.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, wheel, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture
def raycifar(environment, tmp_path):
    """Calls the installed command in an empty folder."""
    return lambda *arguments: run(environment / "bin/raycifar", *arguments, cwd=tmp_path, check=False)


def files(folder, kinds="*"):
    return {path.relative_to(folder).as_posix() for path in folder.rglob(kinds) if path.is_file()}


def test_the_wheel_holds_the_package_and_the_stock_sweeps_and_no_more(wheel):
    held = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    package = {f"raycifar/{name}" for name in files(PACKAGE) if "__pycache__" not in name}
    sweeps = {f"raycifar/sweeps/{name}" for name in files(SWEEPS, "*.toml")}
    assert sorted(held) == sorted(package | sweeps)
    assert {"raycifar/py.typed", "raycifar/analysis/reference.toml", "raycifar/tracking/grafana.json"} <= package
    assert {"raycifar/analysis/report/templates/report.html.j2", "raycifar/sweeps/quick.toml"} <= set(held)


def test_it_is_the_wheels_package_that_is_imported_and_it_has_no_commit(environment, tmp_path):
    code = "import raycifar.execution.agreement as w; print(w.__file__, w.commit())"
    file, commit = run(environment / "bin/python", "-c", code, cwd=tmp_path).stdout.split()
    assert Path(file).is_relative_to(environment)
    assert commit == "None"


@pytest.mark.parametrize(("arguments", "name"), [(["quick"], "quick"), ([], "vgg")])
def test_a_stock_sweep_is_planned_in_an_empty_folder(raycifar, tmp_path, arguments, name):
    done = raycifar("run", *arguments, "--dry-run", "--gpus=0")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^ *(scratch|transfer-\d) ", done.stdout, re.MULTILINE)
    assert f"ray_results/{name}" in done.stdout.replace("\n", "")
    assert "4 trials" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_sweep_is_refused_in_one_line(raycifar):
    done = raycifar("run", "nonsuch")
    assert (done.returncode, done.stdout) == (2, "")
    stock = ", ".join(sorted(path.stem for path in SWEEPS.glob("*.toml")))
    assert done.stderr == f"raycifar run: nonsuch: no such file and no such stock sweep (stock sweeps: {stock})\n"


def test_a_file_that_is_not_there_is_refused_with_the_folder_of_examples(raycifar, environment):
    line = raycifar("run", "sweeps/quick.toml").stderr
    examples = Path(line.partition("see the examples in ")[2].strip())
    assert examples.is_relative_to(environment)
    assert files(examples) == files(SWEEPS, "*.toml")


def test_a_sweep_is_analysed(raycifar, tmp_path):
    shutil.copytree(SAMPLES / "quick", tmp_path / "quick")
    done = raycifar("analyze", "quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "report: quick/analysis/report.html"
    assert "reference" in (tmp_path / "quick/analysis/report.html").read_text()


@pytest.mark.parametrize(("command", "script"), [("run", "run_sweep.py"), ("analyze", "analyze.py")])
def test_the_installed_command_has_the_scripts_options(raycifar, command, script):
    ours, theirs = raycifar(command, "--help").stdout, run(sys.executable, script, "--help", cwd=ROOT).stdout
    first, options = "usage: {}", re.compile(r"^  (?:-h, )?(--[a-z-]+.*)$", re.MULTILINE)
    assert ours.startswith(first.format(f"raycifar {command}"))
    assert theirs.startswith(first.format(script))
    assert options.findall(ours) == options.findall(theirs) != []
