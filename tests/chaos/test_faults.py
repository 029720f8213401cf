"""Real sweeps of the command line with one injected fault each; `make chaos` runs those that take too long for CI."""

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

import raycifar.execution.plan
from raycifar.config.sweep_file import load_sweep
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.storage.checkpoints import saved_history
from raycifar.storage.folders import SweepFolder
from tests.chaos.compare import numbers, tune_epochs
from tests.chaos.victims import NAMES, found
from tests.support.paths import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.assets]
SWEEP = "tests/chaos/sweep.toml"


@contextlib.contextmanager
def running(folder, *options):
    """The running command, in a process group of its own; its standard output is read line by line."""
    command = [sys.executable, "run_sweep.py", SWEEP, "--gpus=0", f"--storage={folder.parent}", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def lines(process):
    for line in process.stdout:
        print(line, end="")
        yield line


def of_trial(process, role, trial):
    """The trial's processes of that role."""
    return [p for p in found(process.pid, NAMES[role]) if Path(p.cwd()).name == trial]


def undisturbed(path, trials, threads):
    """The same trials without Ray and without faults, on as many threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raycifar.execution.plan, "cpu_count", lambda: threads)
        options = Options(gpus=0, local=True, only=tuple(trials))
        assert run_sweep(load_sweep(ROOT / SWEEP), path, options, Console(file=io.StringIO()))
    return SweepFolder(path)


@pytest.mark.chaos
def test_a_worker_that_stands_still_and_a_killed_driver_cost_no_epoch(tmp_path):
    """SIGSTOP stands for a worker that is stuck in a call: only its watchdog can see that."""
    folder, trials, hit = SweepFolder(tmp_path / "chaos"), ["cosine", "plateau"], set()
    with running(folder.path, "--only=cosine", "--only=plateau", "--hang-timeout=20") as process:
        for line in lines(process):
            if "cosine  epoch 2/6" in line and "cosine" not in hit:
                hit.add("cosine")
                of_trial(process, "worker", "cosine")[0].suspend()
            if "plateau  epoch 2/6" in line and "plateau" not in hit:
                hit.add("plateau")
                of_trial(process, "driver", "plateau")[0].kill()
        assert process.wait(60) == 0, process.stderr.read()
    assert hit == set(trials)
    sessions = [folder.trial(trial).history().sessions for trial in trials]
    assert [len(found) for found in sessions] == [2, 2]
    expected = undisturbed(tmp_path / "undisturbed", trials, sessions[0][0].threads)
    assert [numbers(folder.trial(t)) for t in trials] == [numbers(expected.trial(t)) for t in trials]
    assert [tune_epochs(folder.trial(trial)) for trial in trials] == [[1, 2, 3, 4, 5, 6]] * 2


@pytest.mark.chaos
def test_sigterm_saves_an_epoch_and_leaves(tmp_path):
    folder = SweepFolder(tmp_path / "chaos")
    with running(folder.path, "--only=cosine") as process:
        next(line for line in lines(process) if "epoch 2/6" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
        errors = process.stderr.read()
    assert "SIGTERM: stops once cosine have saved an epoch, in 20 s at the latest" in errors
    assert "Interrupted. To go on: python run_sweep.py" in errors
    assert len(saved_history(folder.trial("cosine").path).epochs) >= 2
    assert folder.invocations()[0].exit_status == 130
    assert not left_of(process)


def left_of(process):
    """Processes of the sweep, Ray's among them, that outlived it: those of its process group."""
    return [p for p in psutil.process_iter() if _group(p) == process.pid and p.status() != psutil.STATUS_ZOMBIE]


def _group(process):
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


@pytest.mark.chaos
def test_ctrl_c_twice_leaves_like_ctrl_c_once(tmp_path):
    """Both reach the whole process group, as from a terminal."""
    folder = SweepFolder(tmp_path / "chaos")
    with running(folder.path, "--only=cosine") as process:
        next(line for line in lines(process) if "epoch 2/6" in line)
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert errors.count("Interrupted. To go on:") == 1
    assert folder.invocations()[0].exit_status == 130


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 330 MB: a checkpoint has 177 MB, 118 after a best epoch: room for two and never for three."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=330m", "tmpfs", path], check=False).returncode:
        pytest.skip("mounting is not permitted here")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("runner", ["--local", pytest.param("--hang-timeout=1800", marks=pytest.mark.chaos)])
def test_a_full_disk_ends_the_trial_with_a_remedy_and_room_resumes_it(small_disk, runner):
    """Without Ray and, as the option that changes nothing says, with it."""
    folder = SweepFolder(small_disk / "chaos")
    with running(folder.path, "--only=cosine", "--set=epochs=4", runner) as process:
        printed = process.communicate(timeout=240)
    assert process.returncode == 1, printed
    assert (
        f"cosine  failed  {folder.path / 'cosine'}: cannot be written (No space left on device): make room"
        in printed[0]
    )
    assert "Traceback" not in printed[1]
    saved = len(saved_history(folder.trial("cosine").path).epochs)
    assert saved >= 2
    subprocess.run(["mount", "-o", "remount,size=2g", small_disk], check=True)
    with running(folder.path, "--only=cosine", "--set=epochs=4", runner) as process:
        printed = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    assert [session.first_epoch for session in folder.trial("cosine").history().sessions] == [1, saved + 1]


def test_a_read_only_folder_is_refused_in_one_line(small_disk):
    folder = small_disk / "chaos"
    folder.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with running(folder, "--only=cosine") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors == f"run_sweep.py: {folder}: {folder} may not be written: choose another --storage\n"


@pytest.mark.chaos
def test_the_death_of_a_second_node_moves_its_trial_to_the_first(tmp_path):
    """Two nodes of one core each, on this machine; the raylet of the second is killed while a trial runs there."""
    from ray.cluster_utils import Cluster

    folder, trials = SweepFolder(tmp_path / "chaos"), ["cosine", "plateau"]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        with running(folder.path, "--only=cosine", "--only=plateau", f"--address={cluster.address}") as process:
            next(line for line in lines(process) if "epoch 2/6" in line)
            cluster.remove_node(second, allow_graceful=False)
            for _ in lines(process):
                pass
            assert process.wait(60) == 0, process.stderr.read()
    finally:
        cluster.shutdown()
    expected = undisturbed(tmp_path / "undisturbed", trials, 1)
    assert [numbers(folder.trial(t)) for t in trials] == [numbers(expected.trial(t)) for t in trials]


@pytest.mark.chaos
def test_a_sweep_can_be_analysed_while_it_runs(tmp_path):
    folder = SweepFolder(tmp_path / "chaos")
    with running(folder.path, "--only=cosine") as process:
        next(line for line in lines(process) if "epoch 2/6" in line)
        command = [sys.executable, "analyze.py", str(folder.path), "--out", str(tmp_path / "out")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        still = process.poll() is None
        process.communicate(timeout=240)
    assert still, "the sweep was over before its analysis: nothing was tested"
    assert "running" in (tmp_path / "out" / "report.md").read_text(), done.stdout
