"""Real Ray on this machine's CPU cores, and on logical GPUs: Ray schedules four GPUs that are not there, on which
the trials compute with the CPU."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from rich.console import Console

import raycifar.execution.plan
import raycifar.execution.runners
from raycifar.config.sweep import SweepSpec
from raycifar.devices import LOGICAL_GPUS
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.storage.folders import SweepFolder
from raycifar.storage.records import History
from raycifar.storage.written import BESIDE_TRIALS, BY_RAY
from raycifar.training.checkpoint_writer import save_checkpoint
from raycifar.training.failures import GpuMemoryError, StorageError, trial_error
from raycifar.training.loop import NonFiniteLossError
from raycifar.training.trial import Assets
from tests.support.canaries import canaries, seen
from tests.support.paths import ROOT, SAMPLE
from tests.support.progress import Progress
from tests.support.ray_processes import ray_processes
from tests.support.records import TIMES
from tests.support.sweep_folders import write_sweep
from tests.support.sweeps import sweep_of

pytestmark = pytest.mark.ray


def numbers(folder, trial):
    records = folder.trial(trial).history().epochs
    return [{key: value for key, value in asdict(record).items() if key not in TIMES} for record in records]


@pytest.fixture(scope="module")
def sample_assets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raycifar.execution.runners, "fetch_assets", lambda trials, options: Assets(SAMPLE, None))
        yield


@pytest.fixture(scope="module")
def on_cpus(sample_assets, tmp_path_factory):
    """Three trials on two cores, of which one cannot succeed."""
    folder, output = SweepFolder(tmp_path_factory.mktemp("storage") / "tiny"), Watching()
    sweep = sweep_of(long={"epochs": 3}, short={"seed": 2}, explodes={"optimizer": {"lr": 1e6}})
    finished = run_sweep(sweep, folder.path, Options(gpus=0), Console(file=output, width=200))
    assert {"ImplicitFunc", "RayTrainWorker"} <= output.seen
    needless = {"TrainController", "PlacementGroupCleaner", "SynchronizationActor", "_AutoscalingCoordinatorActor"}
    assert not output.seen & {*needless, "_QueueActor"}
    return sweep, folder, finished, output.getvalue()


class Watching(io.StringIO):
    """A terminal that looks, whenever an epoch is shown, which actors live."""

    seen: ClassVar[set[str]] = set()

    def write(self, text):
        if " epoch " in text:
            self.seen.update(ray_processes())
        return super().write(text)


# These two first: they need a Ray of two cores, and the next fixture's has eight until the end of this module.


def test_a_driver_killed_between_two_trials_costs_neither(on_cpus, tmp_path):
    """Tune keeps it for the slot's next trial, and tries none again whose driver dies before it begins."""
    import psutil

    class KillBetween(io.StringIO):
        killed = 0

        def write(self, text):
            if "short  done" in text and not self.killed:
                drivers = [p for p in psutil.process_iter(["name"]) if "ImplicitFunc" in (p.info["name"] or "")]
                self.killed = next(p for p in drivers if _works_on(p, "short"))
                self.killed.kill()
                self.killed.wait(10)
            return super().write(text)

    sweep = sweep_of(long={"epochs": 12}, short={}, next={"seed": 3})
    folder, output = SweepFolder(tmp_path / "kept"), KillBetween()
    assert run_sweep(sweep, folder.path, Options(gpus=0), Console(file=output, width=200)), output.getvalue()
    assert output.killed
    assert (
        "next  warning: it never began, as its driver was killed or could not go on: it is tried again"
        in output.getvalue()
    )
    assert "failed" not in output.getvalue()
    assert [len(folder.trial(name).history().sessions) for name in ("long", "short", "next")] == [1, 1, 1]


def test_a_trial_whose_driver_is_killed_twice_fails_alone_and_makes_room(on_cpus, tmp_path):
    """On two cores the trial that waits has room only once the killed one's is free, and so has its second driver."""
    import psutil

    class KillTwice(io.StringIO):
        killed = 0

        def write(self, text):
            epoch = re.search(r"hit  epoch (\d+)/40", text)
            if epoch and int(epoch[1]) > 1 + self.killed and self.killed < 2:
                drivers = [p for p in psutil.process_iter(["name"]) if "ImplicitFunc" in (p.info["name"] or "")]
                self.killed += 1
                next(p for p in drivers if _works_on(p, "hit")).kill()
            return super().write(text)

    sweep = sweep_of(hit={"epochs": 40}, calm={"epochs": 39}, waits={"seed": 3})
    folder, output = SweepFolder(tmp_path / "room"), KillTwice()
    assert not run_sweep(sweep, folder.path, Options(gpus=0), Console(file=output, width=200))
    assert output.killed == 2
    assert [folder.trial(name).summary() is not None for name in ("hit", "calm", "waits")] == [False, True, True]
    assert folder.trial("hit").error() is not None


@pytest.fixture(scope="module")
def four_logical_gpus(on_cpus):
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOGICAL_GPUS, "1")
        ray.init(num_cpus=8, num_gpus=4, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.mark.parametrize("left", [1, 0], ids=["half of it", "nothing"])
def test_a_tested_trial_that_tune_had_not_heard_to_the_end_is_told_again_and_not_trained(
    on_cpus, four_logical_gpus, left
):
    """As when the main process is killed just after a trial's end, perhaps before Tune has written a file."""
    sweep, folder, *_ = on_cpus
    before, file = folder.trial("long").history(), folder.trial("long").path / "result.json"
    if left:
        file.write_text(file.read_text().partition("\n")[0])  # half a line is no line
    else:
        file.unlink()
    assert run_sweep(sweep, folder.path, Options(gpus=0, only=("long",)), Console(file=io.StringIO()))
    assert [json.loads(line)["epoch"] for line in file.read_text().splitlines()] == [1, 2, 3]
    assert folder.trial("long").history() == before


def test_a_failing_trial_fails_alone(on_cpus):
    _, folder, finished, output = on_cpus
    assert not finished
    assert folder.trial("explodes").error().kind == "NonFiniteLossError"
    assert folder.trial("long").summary() is not None
    assert folder.trial("short").summary() is not None
    assert "explodes  failed" in output


def test_two_cores_run_two_trials_at_once(on_cpus):
    _, folder, _, output = on_cpus
    assert folder.invocations()[0].trials_at_once == min(2, len(os.sched_getaffinity(0)))
    assert "Ray dashboard: http://127.0.0.1:" in output


def test_ray_and_local_give_the_same_numbers(on_cpus, tmp_path, monkeypatch):
    sweep, folder, _, _ = on_cpus
    monkeypatch.setattr(raycifar.execution.plan, "cpu_count", lambda: 1)  # as many threads as a trial had under Ray
    local = SweepFolder(tmp_path / "local")
    run_sweep(sweep, local.path, Options(gpus=0, local=True, only=("long", "short")), Console(file=io.StringIO()))
    for trial in ("long", "short"):
        assert numbers(local, trial) == numbers(folder, trial)
        assert local.trial(trial).summary().test_loss == folder.trial(trial).summary().test_loss


def test_a_trials_folder_holds_tunes_and_trains_files_too(on_cpus):
    _, folder, _, _ = on_cpus
    trial = folder.trial("long").path
    results = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    assert [result["epoch"] for result in results if "epoch" in result] == [1, 2, 3]
    assert (trial / "progress.csv").exists()
    assert list(trial.glob("events.out.tfevents.*"))
    kept = sorted(path.name for path in trial.glob("checkpoint_*"))
    assert kept[1:] == ["checkpoint_000003", "checkpoint_manager_snapshot.json"]
    assert kept[0] in ("checkpoint_000001", "checkpoint_000002")  # the first's, where its writing took an epoch


def test_what_ray_writes_beside_trials_is_on_the_list_of_names_that_no_trial_may_have(on_cpus):
    sweep, folder, *_ = on_cpus
    beside = {path.name for path in folder.path.iterdir()} - {trial.name for trial in sweep.trials}
    assert "tuner.pkl" in beside
    assert [name for name in beside if not name.startswith(".") and not BESIDE_TRIALS.fullmatch(name.lower())] == []


def test_ray_writes_through_no_link_of_a_stranger(on_cpus, four_logical_gpus, tmp_path):
    """The folder of a sweep in which everything that Ray writes by a name of its own leads elsewhere."""
    sweep, folder, *_ = on_cpus
    shutil.copytree(folder.path, tmp_path / "tiny")
    canaries(tmp_path / "outside")
    (tmp_path / "tiny" / "short" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "tiny" / "short" / "checkpoint_000002")
    planted = [path for path in (tmp_path / "tiny").rglob("*") if BY_RAY.fullmatch(path.name)]
    assert {"tuner.pkl", "params.json", "result.json", "progress.csv"} <= {path.name for path in planted}
    for path in planted:
        path.unlink()
        path.symlink_to(tmp_path / "outside" / "thesis.tex")
    before = seen(tmp_path / "outside")
    assert run_sweep(sweep, tmp_path / "tiny", Options(gpus=0, only=("short",)), Console(file=io.StringIO()))
    assert seen(tmp_path / "outside") == before


def test_four_trials_share_four_gpus_at_once(four_logical_gpus, tmp_path):
    sweep = sweep_of(a={"epochs": 4}, b={"epochs": 4}, c={"epochs": 4}, d={"epochs": 4})
    folder = SweepFolder(tmp_path / "four")
    assert run_sweep(sweep, folder.path, Options(gpus=4), Console(file=io.StringIO()))
    sessions = [folder.trial(trial).history().sessions[0] for trial in "abcd"]
    gpus = {session.devices[0].rsplit(":", 1)[1] for session in sessions}
    assert gpus == {"0", "1", "2", "3"}
    assert max(s.started_at for s in sessions) < min(s.ended_at for s in sessions), "they did not all run at once"


def test_how_many_trials_share_a_gpu_is_measured_first(four_logical_gpus, tmp_path):
    """On the CPU in a GPU's place: which number is best there is of no interest, that it is used is."""
    folder, output = SweepFolder(tmp_path / "shared"), io.StringIO()
    options, console = Options(gpus=1, trials_per_gpu="auto"), Console(file=output, width=200)
    head = {"weights": "random", "train": "head"}
    assert run_sweep(sweep_of(a={"model": head}, b={"model": head}), folder.path, options, console)
    found = re.search(
        r"--trials-per-gpu auto: (\d) \(images/s by trials side by side: 1: [\d,]+, 2: [\d,]+", output.getvalue()
    )
    assert folder.invocations()[0].trials_at_once == int(found[1])


def test_a_trial_with_two_workers_survives_the_loss_of_one(four_logical_gpus, tmp_path):
    """Its numbers are those of an undisturbed trial; Train starts both workers again."""
    import psutil

    # So many epochs that some are left when the second one's line comes late, on a busy machine.
    sweep = sweep_of(pair={"epochs": 12, "precision": "fp32"}, calm={"epochs": 12, "precision": "fp32"})
    folder = SweepFolder(tmp_path / "two")

    class KillOnce(io.StringIO):
        killed = 0

        def write(self, text):
            if "pair  epoch 2/12" in text and not self.killed:
                workers = [p for p in psutil.process_iter(["name"]) if "RayTrainWorker" in (p.info["name"] or "")]
                mine = [p for p in workers if _works_on(p, "pair")]
                self.killed = mine[0].pid
                mine[0].kill()
            return super().write(text)

    output = KillOnce()
    assert run_sweep(sweep, folder.path, Options(gpus=4, workers_per_trial=2), Console(file=output, width=200))
    assert output.killed
    assert len(folder.trial("pair").history().sessions) == 2
    assert [record["epoch"] for record in numbers(folder, "pair")] == list(range(1, 13))
    assert numbers(folder, "pair") == numbers(folder, "calm")


def _works_on(process, trial):
    return Path(process.cwd()).name == trial


@pytest.mark.parametrize("way", ["ours", "rays"])
def test_a_trial_does_not_end_before_tune_has_taken_in_its_last_report(four_logical_gpus, tmp_path, way):
    """However long that takes: in Ray's way, where the end overtakes the report, Tune's thread waits for itself."""
    import ray.tune

    run = ray.tune.RunConfig(storage_path=str(tmp_path))
    [result] = ray.tune.Tuner(_reports_to_a_slow_tune, param_space={"way": way}, run_config=run).fit()
    assert result.error is None
    assert result.metrics["epoch"] == 1


def _reports_to_a_slow_tune(config):
    from ray.train._internal.session import get_session

    from raycifar.execution.ray_private.trials import tells_tune, wait_until_tune_has_read

    session = get_session()
    passed_on = session.report

    def late(metrics, checkpoint=None):
        time.sleep(3 if "epoch" in metrics else 0)
        passed_on(metrics, checkpoint)

    session.report = late
    tell = tells_tune() if config["way"] == "ours" else session._get_or_create_inter_actor_queue().put
    tell({"epoch": 1})
    wait_until_tune_has_read()


def test_more_gpus_than_there_are_is_refused_with_what_ray_sees(tmp_path, monkeypatch):
    monkeypatch.delenv(LOGICAL_GPUS, raising=False)  # which four_logical_gpus sets for the whole module
    started = time.monotonic()
    done = command("sweeps/vgg.toml", "--gpus", "4096", "--storage", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("run_sweep.py: --gpus 4096: this machine has ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert time.monotonic() - started < 60


def command(*arguments):
    script = [sys.executable, "run_sweep.py", *arguments]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


SMALL = ["--set=data.train_images=60", "--set=data.holdout_images=50", "--set=batch_size=60"]


@pytest.mark.assets
def test_ctrl_c_and_the_same_command_again_give_every_epoch_once(tmp_path):
    arguments = ["sweeps/quick.toml", "--only=scratch", "--gpus=0", f"--storage={tmp_path}", *SMALL, "--set=epochs=6"]
    folder = SweepFolder(tmp_path / "quick")
    with subprocess.Popen(
        [sys.executable, "run_sweep.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        for line in running.stdout:
            if "scratch  epoch 2/6" in line:
                running.send_signal(signal.SIGINT)
                break
        try:
            _, errors = running.communicate(timeout=120)
        finally:
            running.kill()
    assert running.returncode == 130
    assert "To go on: python run_sweep.py sweeps/quick.toml" in errors
    assert folder.trial("scratch").summary() is None

    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    history = folder.trial("scratch").history()
    assert [record.epoch for record in history.epochs] == list(range(1, 7))
    assert len(history.sessions) == 2
    assert [call.exit_status for call in folder.invocations()] == [130, 0]
    results = (folder.trial("scratch").path / "result.json").read_text().splitlines()
    epochs = [json.loads(line).get("epoch") for line in results]
    assert [epoch for epoch in epochs if epoch] == list(range(1, 7)), "Tune's own file lacks the first session's epochs"

    third = command(*arguments)
    assert third.returncode == 0
    assert "Nothing to do" in third.stdout


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Runs `train_in_worker` here, with a stand-in for the trial that raises `error`; returns how often that ran."""
    from raycifar.execution import ray_worker
    from raycifar.execution.session import Job

    spec = sweep_of(full={}).trials[0]
    (tmp_path / "full").mkdir()

    def work(workers, error):
        runs = []

        def fail(*_):
            runs.append(1)
            SweepFolder(tmp_path).trial("full").write_error(trial_error(error))
            raise error

        monkeypatch.setattr(ray_worker, "run_trial", fail)
        monkeypatch.setattr(ray_worker, "epochs_heard", lambda config: 0)
        job = Job(str(tmp_path), "", None, {}, workers, 0.0, 1.0, 1, hang_seconds=60)
        config = {"trial": spec.model_dump(mode="json"), "job": asdict(job)}
        try:
            ray_worker.train_in_worker(config)
        except type(error):
            return "raised", len(runs)
        return "returned", len(runs)

    return work


@pytest.mark.parametrize("error", [GpuMemoryError("full"), StorageError("full"), NonFiniteLossError("nan")])
def test_what_would_go_wrong_again_is_not_tried_again(worker, error):
    """Alone, a worker just ends; one of several brings the others down with it, and all see when started again."""
    assert worker(1, error) == ("returned", 1)
    assert worker(2, error) == ("returned", 0)


def test_one_worker_of_several_does_not_leave_the_others_waiting(worker):
    assert worker(2, GpuMemoryError("full")) == ("raised", 1)
    assert worker(2, GpuMemoryError("full")) == ("returned", 0)


def test_what_may_go_well_another_time_is_tried_again(worker):
    assert worker(1, OSError(5, "Input/output error")) == ("raised", 1)
    assert worker(1, OSError(5, "Input/output error")) == ("raised", 1)


WATCHED = """
import os, signal, time
from raycifar.execution import ray_cluster
ray_cluster.ASK_SECONDS = {seconds}
with {ray}, ray_cluster.watched():
    {then}
    time.sleep({sleep})
"""


def watched(seconds, sleep, ray="ray_cluster.cluster()", then=""):
    """A process whose main thread sleeps beside a Ray of its own: its exit status and what it says."""
    command = [sys.executable, "-c", WATCHED.format(seconds=seconds, sleep=sleep, ray=ray, then=then)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    return done.returncode, "run_sweep.py: Ray died, or was killed. The same command goes on." in done.stderr


def test_a_loop_that_waits_for_something_else_than_ray_goes_on():
    """A tracker whose server is down, a terminal that was stopped: here a sleep."""
    assert watched(seconds=2, sleep=8) == (0, False)


def test_a_ray_that_does_not_answer_ends_the_call_with_a_line():
    """Here none was started."""
    assert watched(seconds=0.1, sleep=60, ray="ray_cluster.contextlib.nullcontext()") == (1, True)


def test_a_question_starts_no_ray():
    """As Ray would by itself, in a thread that asks while the main one shuts Ray down."""
    ask = "from raycifar.execution import ray_cluster; ray_cluster.ray.get_runtime_context().get_node_id()"
    command = [sys.executable, "-c", ask]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Ray has not been initialized" in done.stderr


def test_a_ray_whose_node_was_killed_ends_the_call_with_a_line():
    """Tune itself would wait for room on another one, for ever."""
    raylet = "[child] = ray_cluster.ray._private.worker._global_node.all_processes['raylet']"
    kill = f"{raylet}; os.kill(child.process.pid, signal.SIGKILL)"
    assert watched(seconds=2, sleep=120, then=kill) == (1, True)


def test_an_epoch_that_tune_hears_of_only_from_a_new_driver_is_shown(tmp_path):
    """The first driver was killed between an epoch's checkpoint and its report."""
    from raycifar.execution.ray_progress import TellBus

    folder = write_sweep(tmp_path / "q", {"a": (1, 3)})
    epochs = folder.trial("a").history().epochs
    (folder.trial("a").path / "summary.json").unlink()
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(SweepSpec.model_validate(folder.record().spec).trials, console)
    show = TellBus(progress.bus, folder)
    trial = SimpleNamespace(config={"trial": {"name": "a"}})
    show.on_trial_start(0, [], trial)
    show.on_trial_result(0, [], trial, epochs[0].to_json())
    save_checkpoint(folder.trial("a").path, {}, History(epochs[:2]))
    warned = replace(folder.trial("a").history().sessions[0], warnings=["no CUDA graph: [bold]"])
    folder.trial("a").write_history(History(epochs, [warned]))
    show.on_trial_start(0, [], trial)
    for record in epochs[1:]:
        show.on_trial_result(0, [], trial, record.to_json())
    assert re.findall(r"epoch (\d)/3", console.file.getvalue()) == ["1", "2", "3"]
    assert console.file.getvalue().count("a  warning: no CUDA graph: [bold]\n") == 1


def test_a_trial_whose_workers_do_not_come_is_told_of_once(tmp_path, monkeypatch):
    """Train tries again for a day: on a cluster a node may come back."""
    from raycifar.execution import ray_progress

    folder = SweepFolder(tmp_path)
    folder.trial("a").path.mkdir()
    console = Console(file=io.StringIO(), width=200)
    show = ray_progress.TellBus(Progress(sweep_of(a={}).trials, console).bus, folder)
    show.on_trial_start(0, [], SimpleNamespace(config={"trial": {"name": "a"}}))
    show.on_step_end(1, [])
    assert "warning" not in console.file.getvalue()
    monkeypatch.setattr(ray_progress, "SLOW_START_SECONDS", 0.0)
    show.on_step_end(2, [])
    show.on_step_end(3, [])
    assert console.file.getvalue().count("a  warning: no worker after 0 s, still waiting") == 1
