"""Every private name of Ray that the product uses is where this Ray has it; test_ray_sweep.py uses them."""

import ast
import inspect
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow  # imports Ray
ALONE = "raycifar/execution/ray_private"


def private(path):
    """What a module imports of Ray from below a name with a leading underscore, or so named."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.startswith("ray.") and "._" in f".{name}")


def test_private_names_of_ray_stand_in_one_package():
    users = {path.parent for path in (ROOT / "raycifar").rglob("*.py") if list(private(path))}
    assert users == {ROOT / ALONE}


@pytest.mark.parametrize("name", sorted({name for path in (ROOT / ALONE).glob("*.py") for name in private(path)}))
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


@pytest.mark.parametrize(("before", "after"), [(None, b""), (b"an older Ray's", b"an older Ray's")])
def test_the_token_is_nobody_elses(tmp_path, monkeypatch, before, after):
    from raycifar.execution.ray_private.start import hide_token

    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray/auth_token"
    if before:
        token.parent.mkdir()
        token.write_bytes(before)
        token.chmod(0o644)
    hide_token()
    assert (token.read_bytes(), token.stat().st_mode & 0o777) == (after, 0o600)


def test_a_token_that_is_a_link_is_left_alone(tmp_path, monkeypatch):
    from raycifar.execution.ray_private.start import hide_token

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir()
    (tmp_path / "theirs").touch(0o644)
    (tmp_path / ".ray/auth_token").symlink_to(tmp_path / "theirs")
    hide_token()
    assert (tmp_path / "theirs").stat().st_mode & 0o077


@pytest.mark.ray
def test_ray_writes_its_first_token_into_the_file_that_waits_for_it(tmp_path):
    start = "from raycifar.execution.ray_cluster import cluster\nwith cluster(): pass"
    environment = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", start], cwd=ROOT, env=environment, check=True, capture_output=True)
    token = tmp_path / ".ray/auth_token"
    assert len(token.read_text()) > 20
    assert token.stat().st_mode & 0o777 == 0o600


LIST = "import os, sys; print(os.listdir(sys.argv[1]))"


@pytest.mark.ray
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user, too")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_rays_open_folder_lies_where_the_user_says_and_nobody_else_gets_in(mode):
    """Ray gives what it makes there the mode 0777; SECURITY.md says what to do where others may log in."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:  # the path of a socket must be short
        os.chmod(folder, mode)
        start = "from raycifar.execution.ray_cluster import cluster\nwith cluster(): pass"
        environment = {**os.environ, "RAY_TMPDIR": folder}
        subprocess.run([sys.executable, "-c", start], cwd=ROOT, env=environment, check=True, capture_output=True)
        (session,) = [path for path in Path(folder, "ray").iterdir() if path.is_dir() and not path.is_symlink()]
        assert session.parent.stat().st_mode & 0o777 == 0o777
        other = ["/usr/bin/env", "python3", "-c", LIST, str(session)]
        done = subprocess.run(other, user=65534, group=65534, extra_groups=[], capture_output=True, check=False)
        assert (b"Permission denied" in done.stderr) is (mode == 0o700)
