"""Every private name of Ray that the product uses is where this Ray has it; test_ray_sweep.py uses them."""

import ast
import inspect

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow  # imports Ray
ALONE = "raycifar/execution/ray_private.py"


def private(path):
    """What a module imports of Ray from below a name with a leading underscore, or so named."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.startswith("ray.") and "._" in f".{name}")


def test_private_names_of_ray_stand_in_one_module():
    users = {path.relative_to(ROOT).as_posix() for path in (ROOT / "raycifar").rglob("*.py") if list(private(path))}
    assert users == {ALONE}


@pytest.mark.parametrize("name", sorted(set(private(ROOT / ALONE))))
def test_this_ray_has_the_private_name(name):
    module, _, attribute = name.rpartition(".")
    imported = __import__(module, fromlist=[attribute])
    assert hasattr(imported, attribute), f"Ray has moved {name}: read it anew, and mend {ALONE}"


def test_the_trainer_overrides_what_ray_calls():
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    source = inspect.getsource(DataParallelTrainer)
    assert "self._create_default_callbacks()" in source, f"Ray asks otherwise for its callbacks: mend {ALONE}"


def test_a_tune_session_has_the_queue_that_is_waited_for():
    from ray.train._internal import session

    assert "_inter_actor_queue" in inspect.getsource(session), f"Ray has moved the queue of reports: mend {ALONE}"
