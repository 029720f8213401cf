"""Ray nodes of this machine that see other files than it does, through mounts of their own: needs root.

`python -m tests.support.other_nodes STORAGE METADATA` starts a head that asks for its token, a node that has neither
the storage folder nor the package, and one that has METADATA in the place of the package's; prints the head's address,
and ends with its input. `ask` is what a call does that joins it. `python -m tests.support.other_nodes --hidden FOLDER`
starts a head without cores, and a node of one core that sees nothing in the folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import ROOT


def packages():
    """The folders where Python finds the package, here and from elsewhere."""
    code = "import importlib.util as u; print(u.find_spec('raycifar').origin)"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run([sys.executable, "-c", code], cwd="/", env=env, capture_output=True, text=True, check=False)
    return {str(ROOT / "raycifar"), *(str(Path(line).parent) for line in found.stdout.split())}


def metadata():
    """The files that have the package's version: a build leaves a raycifar.egg-info in the checkout, too."""
    folders = [path for folder in sys.path for path in Path(folder or ".").glob("raycifar*-info")]
    return sorted(
        {
            str(path.resolve())
            for folder in folders
            for path in folder.iterdir()
            if path.name in ("METADATA", "PKG-INFO")
        }
    )


@contextlib.contextmanager
def node(address, *mounts):
    """A node of one core with these mounts."""
    ray_start = f"{sys.executable} -m ray.scripts.scripts start --address={address} --num-cpus=1 --block"
    tries = f"for _ in 1 2 3 4 5; do {ray_start} && break; done"  # on a busy machine Ray gives up after 30 s
    script = "; ".join(["set -e", *(f"mount {mount}" for mount in mounts), tries])
    command = ["unshare", "-m", "sh", "-c", script]
    with subprocess.Popen(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def main(storage, other_metadata):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    bare = [f"-t tmpfs none {place}" for place in (storage, *packages())]
    others = [f"--bind {other_metadata} {file}" for file in metadata()]
    try:
        with node(cluster.address, *bare), node(cluster.address, *others):
            print(cluster.address, flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()


def hidden(folder):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        with node(cluster.address, f"-t tmpfs none {folder}"):
            wait_for_nodes(cluster.address, 2)
            print(cluster.address, flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()


def wait_for_nodes(address, number):
    from ray._raylet import GcsClient

    client, until = GcsClient(address=address), time.monotonic() + 200
    while sum(node.state == 0 for node in client.get_all_node_info(timeout=30).values()) < number:  # ALIVE
        assert time.monotonic() < until
        time.sleep(0.5)


def ask(storage, file):
    """Print what the nodes lack, once all three are there."""
    from types import SimpleNamespace

    import ray

    from raycifar.execution import ray_cluster, ray_nodes
    from raycifar.execution.placement import PlacementError
    from raycifar.training.trial import Assets

    plan, assets = SimpleNamespace(gpus_per_worker=0.0), Assets(Path(file), None)
    until = time.monotonic() + 200
    with ray_cluster.cluster("auto"):
        while sum(node["Alive"] for node in ray.nodes()) < 3 and time.monotonic() < until:
            time.sleep(0.5)
        try:
            ray_nodes.check_nodes(SimpleNamespace(plan=plan, assets=assets), Path(storage) / "new")
        except PlacementError as error:
            print(error)


if __name__ == "__main__":
    hidden(sys.argv[2]) if sys.argv[1] == "--hidden" else main(*sys.argv[1:])
