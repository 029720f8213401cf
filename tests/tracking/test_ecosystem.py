"""What others see of a sweep: MLflow and W&B's own stores, Ray's dashboard, Prometheus. One real Ray for all of it.

A sweep of two trials runs twice: `good` is interrupted after its first epoch, by taking away what came later, and
resumed; `bad` fails.
"""

import contextlib
import io
import ipaddress
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
from rich.console import Console

import raycifar.execution.runners
import raycifar.execution.sweep
from raycifar.execution.options import Options
from raycifar.execution.sweep import run_sweep
from raycifar.storage.folders import SweepFolder
from raycifar.training.trial import Assets
from tests.support.event_files import read_scalars
from tests.support.offline_runs import offline_history
from tests.support.paths import ROOT, SAMPLE
from tests.support.sweeps import sweep_of

pytestmark = pytest.mark.ray
DASHBOARD = json.loads((ROOT / "raycifar/tracking/grafana.json").read_text())
QUERIES = {panel["title"]: panel["targets"][0]["expr"] for panel in DASHBOARD["panels"]}
SECRET = "a1b2c3d4e5" * 4


@pytest.fixture(scope="module")
def ray_with_metrics():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raycifar.execution.runners, "fetch_assets", lambda trials, options: Assets(SAMPLE, None))
        patch.setenv("RAY_metrics_report_interval_ms", "500")  # Ray's own 10 s would have to be waited for
        patch.setenv("WANDB_API_KEY", SECRET)
        patch.delenv("WANDB_MODE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        from raycifar.execution import ray_cluster

        with ray_cluster.cluster() as cluster:
            yield cluster


@pytest.fixture(scope="module")
def prometheus(ray_with_metrics, tmp_path_factory):
    """The address of a real Prometheus that scrapes Ray once a second; None where it is not installed."""
    import ray

    (node,) = ray.nodes()
    where = tmp_path_factory.mktemp("prometheus")
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"]
    job = {"job_name": "ray", "scrape_interval": "1s", "static_configs": [{"targets": targets}]}
    (where / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))  # JSON is YAML, too
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [f"--config.file={where}/prometheus.yml", f"--storage.tsdb.path={where}", f"--web.listen-address={address}"]
    if not shutil.which("prometheus"):
        yield None
        return
    with subprocess.Popen(["prometheus", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield address
        process.terminate()


@pytest.fixture(scope="module")
def printed():
    """What Ray itself prints while the sweeps run."""
    return io.StringIO()


@pytest.fixture(scope="module")
def folder(prometheus, printed, tmp_path_factory):
    folder = SweepFolder(tmp_path_factory.mktemp("storage") / "tiny")
    sweep = sweep_of(good={}, bad={"optimizer": {"lr": 1e6}})
    options, console = Options(gpus=0, log=("mlflow", "wandb")), Console(file=io.StringIO())
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert not run_sweep(sweep, folder.path, options, console)
    good = folder.trial("good").path
    (good / "summary.json").unlink()
    shutil.rmtree(good / "checkpoint_000002")
    run_sweep(sweep, folder.path, options, console)
    assert "stopped logging" not in console.file.getvalue()
    time.sleep(3)  # Ray reports at most once a second, and Prometheus asks as often
    assert [session.first_epoch for session in folder.trial("good").history().sessions] == [1, 2]
    return folder


def test_ray_prints_nothing_over_a_sweep_in_which_nothing_is_wrong(folder, printed):
    assert printed.getvalue() == ""


def test_rays_processes_listen_on_loopback_alone(folder):
    """While Ray is up: the dashboard, its agents, the raylet, the GCS and the workers that idle."""
    listening = [
        ipaddress.ip_address(connection.laddr.ip.removeprefix("::ffff:"))
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and process.name() != "prometheus"
    ]
    assert len(listening) > 5
    assert [address for address in listening if not address.is_loopback] == []


def test_rays_warnings_about_the_machine_are_shown(ray_with_metrics, capsys):
    from ray._private.utils import publish_error_to_driver
    from ray._private.worker import global_worker

    publish_error_to_driver("node_died", "A node has died.", gcs_client=global_worker.gcs_client)
    shown = ""

    def is_shown():
        nonlocal shown
        shown += capsys.readouterr().out
        return "A node has died." in shown

    _wait_for(is_shown)


def test_mlflow_holds_one_run_a_trial_with_every_epoch_once(folder):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {"good": "FINISHED", "bad": "FAILED"}
    good, summary = runs["good"], folder.trial("good").summary()
    points = client.get_metric_history(good.info.run_id, "val_accuracy")
    assert [point.step for point in points] == [1, 2]
    assert points[0].value == folder.trial("good").history().epochs[0].val_accuracy
    assert good.data.metrics["test_accuracy"] == summary.test_accuracy
    assert (good.data.params["name"], good.data.params["optimizer/lr"]) == ("good", "0.01")


def test_wandb_holds_one_offline_run_a_trial_from_its_first_epoch_to_its_test(folder):
    runs = sorted((folder.path / "wandb").glob("offline-run-*"))
    assert sorted(re.sub(r"-\d+$", "", run.name.split("-", 3)[3]) for run in runs) == ["tiny-bad", "tiny-good"]
    (good,) = (run for run in runs if "tiny-good" in run.name)
    rows, epochs = offline_history(good), folder.trial("good").history().epochs
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [row["val_accuracy"] for row in rows] == [epoch.val_accuracy for epoch in epochs]
    assert rows[-1]["test_accuracy"] == folder.trial("good").summary().test_accuracy


def test_no_tracker_writes_a_secret(folder):
    files = [folder.path / "mlflow.db", *(path for path in (folder.path / "wandb").rglob("*") if path.is_file())]
    assert len(files) > 3
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_tensorboard_holds_one_run_a_trial_with_every_epoch_once(folder):
    scalars = read_scalars(folder.trial("good").path)
    assert sorted(step for tag, step in scalars if tag == "accuracy/validation") == [1, 2]
    assert all(len(values) == 1 for values in scalars.values())


def test_rays_train_page_shows_each_trials_runs(folder, ray_with_metrics):
    token = (Path.home() / ".ray/auth_token").read_text().strip()
    request = urllib.request.Request(
        f"{ray_with_metrics.dashboard}/api/train/v2/runs/v1", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.load(answer)["train_runs"]
    assert sorted(run["name"] for run in runs) == ["bad", "bad", "good", "good"]


def _wait_for(condition):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.3)
    raise TimeoutError


def answer(address, query):
    """As Grafana asks, with every sweep and trial chosen, for the newest value of the last hour."""
    query = urllib.parse.quote(f"last_over_time({re.sub(r'[$](sweep|trial)', '.*', query)}[1h])")
    with urllib.request.urlopen(f"http://{address}/api/v1/query?query={query}", timeout=30) as reply:
        return json.load(reply)


@pytest.mark.parametrize("panel", QUERIES)
def test_a_real_prometheus_answers_every_panel_of_the_dashboard(folder, prometheus, panel):
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    reply = answer(prometheus, QUERIES[panel])
    assert reply["status"] == "success"
    assert reply["data"]["result"] or panel == "GPU use by node"


def test_a_real_prometheus_has_the_figures_that_are_on_disk(folder, prometheus):
    if prometheus is None:
        pytest.skip("prometheus is not installed")
    last = folder.trial("good").history().epochs[-1]
    for name in ("epoch", "val_accuracy"):
        (series,) = answer(prometheus, f'ray_raycifar_{name}{{sweep="tiny", trial="good"}}')["data"]["result"]
        assert float(series["value"][1]) == pytest.approx(getattr(last, name))
