"""Every private name of Ray that the product uses is where this Ray has it; test_ray_sweep.py uses them."""

import ast
import inspect
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.ray_processes import ray_processes

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


def names_of_methods():
    """What of Ray is overridden or replaced: the owner, the name, and where else Ray must go by that name."""
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.tune.execution.tune_controller import TuneController

    from raycifar.execution.ray_private import start, trials

    controller, group, node = trials.TrainController, trials.WorkerGroup, start.Node
    yield from ((owner, name, None, "") for owner, name in trials.OVERRIDDEN)
    yield from ((node, name, node, f"self.{name}()") for name in start.MONITORS)
    yield DataParallelTrainer, "_create_default_callbacks", DataParallelTrainer, "self._create_default_callbacks()"
    yield DataParallelTrainer, "fit", DataParallelTrainer, "self._initialize_and_run_controller("
    yield controller, "run", controller, "self.worker_group_cls.create("
    yield controller, "get_result", trials.FixedScalingPolicy, "self._maybe_send_resource_request()"
    yield group, "_start_impl", group, "self._create_placement_group("
    yield group, "_start_impl", group, "self._start_impl("
    yield group, "_start_impl", group, "SynchronizationActor.options("
    yield group, "_create_workers", group, "self._get_worker_runtime_env("
    yield TuneController, "_schedule_trial_actor", trials.class_cache, "DEFAULT_ENV_VARS.copy()"


def test_what_is_overridden_is_what_ray_calls():
    for owner, name, caller, call in names_of_methods():
        assert hasattr(owner, name), f"Ray has moved {name} of {owner}: read it anew, and mend {ALONE}"
        assert not caller or call in inspect.getsource(caller), f"Ray no longer says {call}: mend {ALONE}"


def test_what_overrides_takes_what_ray_gives_it():
    from raycifar.execution.ray_private import trials

    for ours in trials.OURS:
        theirs = ours.__mro__[1]
        methods = [name for name in vars(ours) if not name.startswith("__")]
        for name in [name for name in methods if inspect.isfunction(getattr(theirs, name, None))]:
            given, taken = (inspect.signature(getattr(owner, name)).parameters for owner in (theirs, ours))
            assert list(taken) in (list(given), ["self", "parts"]), f"Ray gives {name} {list(given)}: mend {ALONE}"


def test_what_is_left_out_is_what_ray_has():
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    made = inspect.getsource(DataParallelTrainer._create_default_callbacks)
    for name in ("DatasetsCallback", "PlacementGroupCleanerCallback"):
        assert f"{name}(" in made, f"Ray has another name for {name}: mend {ALONE}"


def test_a_placement_group_gets_what_ray_gives_it():
    """The override repeats Ray's call, with a name."""
    from raycifar.execution.ray_private import trials

    (asked,) = re.findall(r"pg = placement_group\((.*?)\n        \)", inspect.getsource(trials.WorkerGroup), re.DOTALL)
    given = re.findall(r"(\w+)=", re.sub("#.*", "", asked))
    assert given == ["bundles", "strategy", "bundle_label_selector"], f"Ray gives {given}: mend {ALONE}"


def test_nobody_answers_what_a_worker_and_the_controller_ask_of_the_actor_in_whose_place_it_is():
    from ray.train.v2._internal.execution import collective_impl, context

    from raycifar.execution.ray_private import alone

    sources = "".join(inspect.getsource(module) for module in (collective_impl, context, alone.worker_group))
    asked = set(re.findall(r"sync_actor\.(\w+)\.remote\(", sources))
    assert asked, f"Ray asks otherwise: mend {ALONE}"
    assert {name for name in asked if not hasattr(alone.Nobody, name)} == set(), f"Ray asks for more: mend {ALONE}"
    with pytest.raises(ValueError, match="2 workers have to meet"):
        alone.Nobody().broadcast_from_rank_zero.remote(world_rank=0, world_size=2, data="checkpoint_000001")


def test_where_workers_meet_rays_own_actor_is_there_again_after_one_that_is_alone():
    from raycifar.execution.ray_private import alone

    before = alone.worker_group.SynchronizationActor
    with alone.nobody_to_meet():
        assert alone.worker_group.SynchronizationActor is alone.Nobody
    assert alone.worker_group.SynchronizationActor is before is not alone.Nobody


def test_a_ray_of_our_own_is_known_by_a_variable_until_it_is_left(monkeypatch):
    from raycifar.execution.ray_private import start, ways

    monkeypatch.setattr(start.ray_constants, "ENABLE_RAY_CLUSTER", False)
    for name in (ways.OWN_RAY, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "0")
    start.choose_interfaces(None)
    assert os.environ[ways.OWN_RAY] == "1"
    start.choose_interfaces("10.0.0.1:6379")
    assert ways.OWN_RAY not in os.environ
    start.choose_interfaces(None)
    start.forget_own_ray()
    assert ways.OWN_RAY not in os.environ


@pytest.mark.parametrize(("own_ray", "told"), [("1", False), (None, True)])
def test_a_driver_is_told_its_environment_only_where_it_does_not_inherit_it(monkeypatch, own_ray, told):
    from raycifar.execution.ray_private import trials, ways

    monkeypatch.delenv(ways.OWN_RAY, raising=False)
    if own_ray:
        monkeypatch.setenv(ways.OWN_RAY, own_ray)
    before = trials.class_cache.DEFAULT_ENV_VARS
    with trials.inherited_environment():
        assert bool(trials.class_cache.DEFAULT_ENV_VARS) == told
        assert bool(trials.class_cache.ENV_VARS_TO_PROPAGATE) == told
        assert bool(trials.workers_environment({}).get("env_vars")) == told
    assert trials.class_cache.DEFAULT_ENV_VARS is before


@pytest.mark.parametrize(
    ("verbose", "own_way", "left_out"), [(False, "", True), (True, "", False), (False, "1", False)]
)
def test_monitors_that_nobody_needs_are_not_started(monkeypatch, verbose, own_way, left_out):
    from raycifar.execution.ray_private import start, ways

    monkeypatch.setenv(ways.RAYS_OWN_WAY, own_way)
    before = [getattr(start.Node, name) for name in start.MONITORS]
    with start.light_start(verbose):
        assert [getattr(start.Node, name) is not ray for name, ray in zip(start.MONITORS, before, strict=True)] == [
            left_out
        ] * 2
    assert [getattr(start.Node, name) for name in start.MONITORS] == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, ["PASSIVE", "1000"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "7"}, [None, "7"]),
    ],
)
def test_how_threads_wait_is_the_users_where_the_user_says_it(before, after):
    code = (
        "import os, json, raycifar.execution.ray_environment\n"
        "print(json.dumps([os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')]))"
    )
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env | before, capture_output=True, check=True)
    assert json.loads(done.stdout) == after


def test_a_tune_session_has_the_queue_that_is_waited_for():
    from ray.train._internal import session

    assert "_inter_actor_queue" in inspect.getsource(session), f"Ray has moved the queue of reports: mend {ALONE}"


def test_what_ray_says_of_a_token_does_not_come_before_our_line(monkeypatch, caplog):
    from ray._private.authentication import authentication_token_setup

    from raycifar.execution.ray_private import start

    def says(**_):
        authentication_token_setup.logger.warning("Token authentication is enabled")

    monkeypatch.setattr(start, "maybe_enable_token_auth_if_token_available", says)
    monkeypatch.setattr(authentication_token_setup.logger, "handlers", [caplog.handler])
    # Ray's start may leave a higher one.
    caplog.set_level(logging.WARNING, logger=authentication_token_setup.logger.name)
    monkeypatch.setattr(start.services, "get_ray_address_from_environment", lambda *_: None)
    assert start.cluster_address("auto") is None
    assert caplog.text == ""
    says()
    assert "Token" in caplog.text


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


SWEEP = """
import sys
from pathlib import Path
import raycifar.execution.runners
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.training.trial import Assets
from rich.console import Console
from tests.support.paths import SAMPLE
from tests.support.sweeps import sweep_of

raycifar.execution.runners.fetch_assets = lambda trials, options: Assets(SAMPLE, None)
sys.exit(not run_sweep(sweep_of(a={"epochs": 3}, b={}), Path(sys.argv[1], "tiny"), Options(gpus=0), Console()))
"""


@pytest.mark.ray
def test_a_ray_that_has_names_elsewhere_goes_its_own_way(tmp_path):
    """As one is told to by a variable; then its own actors do what this package does with fewer."""
    environment = {**os.environ, "RAYCIFAR_RAYS_OWN_WAY": "1"}
    command = [sys.executable, "-c", SWEEP, str(tmp_path)]
    names = set()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=-1) as call:
        while call.poll() is None:
            names |= ray_processes(call.pid)
            time.sleep(0.5)
        errors = call.stderr.read()
    assert call.returncode == 0, errors
    assert {"TrainController", "PlacementGroupCleaner", "SynchronizationActor", "_QueueActor"} <= names
    for trial, epochs in (("a", [1, 2, 3]), ("b", [1, 2])):
        lines = (tmp_path / "tiny" / trial / "result.json").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == epochs
