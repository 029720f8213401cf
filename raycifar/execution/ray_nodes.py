"""Before the first trial on a joined cluster: each node that may train is asked for what trials need there."""

import contextlib
import importlib.metadata
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raycifar.execution import ray_environment  # noqa: F401 - first, for it sets what Ray reads when it is imported

# isort: split
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raycifar.execution import ray_look
from raycifar.execution.placement import PlacementError
from raycifar.execution.session import Session
from raycifar.storage.beneath import Beneath, delete, write_bytes
from raycifar.texts import in_one_line

PACKAGE = "raycifar"
LOOK_SECONDS = 120.0  # for all nodes: a worker process starts there first


def check_nodes(session: Session, folder: Path) -> None:
    """Raises PlacementError, a line a fault, where a node lacks the storage folder, the package or the cached files.

    The folder need not be there: then the nearest one above it is looked for.
    """
    gpus = session.plan.gpus_per_worker > 0
    nodes = [node for node in ray.nodes() if node["Alive"] and _may_train(node["Resources"])]
    assets = [session.assets.data, *filter(None, [session.assets.imagenet, *session.assets.others.values()])]
    sizes = {str(path): path.stat().st_size for path in assets}
    with _token(folder) as (file, token):
        asked = {
            name: _asked(node["NodeID"], (str(file), token, needed(sizes, node, gpus), PACKAGE))
            for name, node in zip(names(nodes), nodes, strict=True)
        }  # all at once
        found = {node: _seen(task) for node, task in asked.items()}
    if lines := faults(found, folder, _version()):
        raise PlacementError(*lines)


def _may_train(resources: Mapping[str, float]) -> bool:
    return bool(resources.get("CPU") or resources.get("GPU"))


def needed(sizes: dict[str, int], node: Mapping[str, Any], gpus: bool) -> dict[str, int]:
    """On GPUs, a node that has none trains nothing; trials' drivers, which read no data, may run there."""
    return sizes if not gpus or node["Resources"].get("GPU") else {}


def names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Host and address of each, with Ray's number where a host has several nodes."""
    hosts = [f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in nodes]
    numbers = [f" {node['NodeID'][:8]}" for node in nodes]
    return [host + (number if hosts.count(host) > 1 else "") for host, number in zip(hosts, numbers, strict=True)]


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@contextmanager
def _token(folder: Path) -> Iterator[tuple[Path, str]]:
    """A file just written into the folder, or above it, and what it holds; deleted at the end."""
    token = secrets.token_hex(8)
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    file = Beneath(there) / f".seen-by-nodes.{token}"
    write_bytes(file, token.encode("ascii"))
    try:
        yield file.path, token
    finally:
        with contextlib.suppress(OSError):
            delete(file)


def _asked(node: str, arguments: tuple[Any, ...]) -> Any:
    """The task on this node, started. Its code goes along: the node may lack the package."""
    ray.cloudpickle.register_pickle_by_value(ray_look)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(ray_look.look)
        return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*arguments)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(ray_look)


def _seen(task: Any) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = ray.get(task, timeout=LOOK_SECONDS)
    except ray.exceptions.GetTimeoutError:
        return {"error": f"no answer within {LOOK_SECONDS:.0f} s"}
    except ray.exceptions.RayError as error:
        return {"error": in_one_line(error)}
    return answer


def faults(found: Mapping[str, Mapping[str, Any]], folder: Path, version: str) -> list[str]:
    """A line for each thing that a node lacks: node, place, remedy. `found`: by node, what `look` returned there."""
    return [line for node, seen in found.items() for line in _faults(node, seen, folder, version)]


def _faults(node: str, seen: Mapping[str, Any], folder: Path, version: str) -> Iterator[str]:
    if "error" in seen:
        yield f"node {node}: could not be asked what it sees ({seen['error']}): look at it with `ray status`"
        return
    if not seen["storage"]:
        yield f"node {node}: does not see {folder}: choose a --storage that all nodes share, such as a network folder"
    if seen["version"] is None:
        yield f"node {node}: lacks the package {PACKAGE}: install it there, or use ray job submit --working-dir ."
    elif seen["version"] != version:
        yield f"node {node}: has {PACKAGE} {seen['version']}, this machine {version}: install the same version there"
    for path in seen["missing"]:
        yield f"node {node}: lacks {path}, or has another: copy it there, or set RAYCIFAR_CACHE to a shared folder"
