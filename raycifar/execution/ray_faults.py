"""Why Ray did not start or could not be joined: from what Ray raises to one line with the cause and its remedy.

Plain text in, plain text out: nothing here imports Ray. The texts are those of Ray 2.60.
"""

import re
from collections.abc import Sequence
from pathlib import Path

LOG_TAIL_BYTES = 50_000  # of each log that is searched for a cause
REASON_CHARACTERS = 200

# What the operating system refuses, in the words of Python, C++ and libc; the first that is found is the cause.
_LIMITS = (
    (
        "Resource temporarily unavailable|can't start new thread|pthread_create failed",
        "this user may start no more processes or threads",
        "raise the limit (`ulimit -u`, or the container's limit of processes)",
    ),
    ("Too many open files", "too many files are open", "raise the limit of open files (`ulimit -n`)"),
    (
        "No space left on device|Disk quota exceeded",
        "the disk is full",
        "make room, or name another folder in RAY_TMPDIR",
    ),
    (
        "create_buffer failed",
        "its object store cannot be made in shared memory",
        "make /dev/shm writable, or enlarge it (in a container: --shm-size=1g)",
    ),
)
# What else Ray's error says by itself; its logs have these words in health, too.
_TOKEN = (
    "[Uu]nauthenticated|InvalidAuthToken|missing or incorrect",
    "the cluster asks for its token",
    "set RAY_AUTH_MODE=token, and have the cluster's token in ~/.ray/auth_token, or in the file RAY_AUTH_TOKEN_PATH",
)
_CAUSES = (
    *_LIMITS,
    _TOKEN,
    (
        "AF_UNIX path length",
        "the path of its sockets is too long",
        "name a folder with a short path in RAY_TMPDIR, such as /tmp",
    ),
    (
        r"/\.ray\b|auth_token|RAY_AUTH_TOKEN_PATH",
        "its token cannot be read or written",
        "set HOME to a folder that may be written, or RAY_AUTH_TOKEN_PATH to a file that holds a token",
    ),
    (
        "dev/shm|object store memory|object_store_memory",
        "there is too little shared memory for its object store",
        "enlarge /dev/shm (in a container: --shm-size=1g) or free memory",
    ),
    (
        "Address already in use|[Nn]o (?:free|available) ports?|available port|port .* (?:is not available|in use)",
        "it found no free port",
        "end what holds the ports (`ss -ltnp` lists them)",
    ),
    (
        r"\[Errno (?:1|13|17|20|30)\]|^FileNotFoundError: ",
        "its folder cannot be written",
        "name a folder that may be written in RAY_TMPDIR",
    ),
    (
        "missing packages|No module named|ImportError",
        "a package of Ray's is missing or does not fit",
        "install `ray[default,train,tune]` anew",
    ),
    (
        "[Vv]ersion mismatch",
        "this process and the cluster have other versions of Ray or Python",
        "install the cluster's versions here",
    ),
)
_WITHOUT = "the sweep runs without it"
# Ray's parts: a text that only their failure has, what they are called, the log that tells more.
_PARTS = (
    ("dashboard", "its dashboard", "dashboard.log"),
    ("node timed out|raylet", "its node (raylet)", "raylet.out"),
    ("GCS|gcs_server", "its control service (GCS)", "gcs_server.out"),
)
_OTHERWISE = "end other programs, or wait for a less busy machine, and give the same command again"


def text_of(error: BaseException) -> str:
    """The error in one line, its type first."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def of_dashboard(error: BaseException) -> bool:
    """Whether only Ray's dashboard failed."""
    return "dashboard" in text_of(error)


def no_start(error: BaseException, logs: Path | None = None) -> str:
    """What of a Ray of our own did not start, why, where its log is, and what to do. `logs`: its folder of logs."""
    text = text_of(error)
    part, log = next(((part, log) for sign, part, log in _PARTS if re.search(sign, text)), ("", ""))
    cause = _cause(text) or _limit_in(logs)
    reason, remedy = cause or (_short(text), _OTHERWISE)
    what = f"Ray did not start on this machine: {part}{': ' if part else ''}{reason}"
    return "; ".join(
        [f"{what}{_quoted(text) if cause else ''}", *_logs(logs, log), f"{remedy}, or do without Ray: --local"]
    )


def no_dashboard(error: BaseException, logs: Path | None = None) -> str:
    """That a sweep goes on without the dashboard, and why."""
    reason, remedy = _cause(text_of(error)) or _limit_in(logs) or ("its process ended", "")
    return "; ".join(
        [
            f"Ray's dashboard did not start: {reason}",
            *_logs(logs, "dashboard.log"),
            *([remedy] if remedy else []),
            _WITHOUT,
        ]
    )


def no_room(left: float, needed: int) -> str:
    """That no Ray of our own is started, for this user may start only `left` threads."""
    return f"Ray was not started on this machine: {_few(left, needed)}; {_LIMITS[0][2]}, or do without Ray: --local"


def no_room_for_dashboard(left: float, needed: int) -> str:
    """As no_room, where there is room for a sweep without the dashboard."""
    return f"Ray's dashboard was not started: {_few(left, needed)} with it; {_LIMITS[0][2]}; {_WITHOUT}"


def _few(left: float, needed: int) -> str:
    return f"this user may start {left:.0f} more processes or threads, and a sweep takes some {needed}"


def no_joining(error: BaseException, address: str) -> str:
    """Why the cluster at `address` could not be joined, and what to do."""
    text = text_of(error)
    reason, remedy = _cause(text) or (_short(text), "look at the cluster with `ray status`, or do without Ray: --local")
    return f"--address {address}: the Ray cluster could not be joined: {reason}; {remedy}"


def limited(error: BaseException, logs: Path | None) -> bool:
    """Whether a limit of the operating system is the cause: then a start without the dashboard fails, too."""
    return any(re.search(sign, text_of(error)) for sign, *_ in _LIMITS) or _limit_in(logs) is not None


def unauthenticated(text: str) -> str | None:
    """What to do where an error of Ray's, as text, is about a cluster's token; else None."""
    sign, cause, remedy = _TOKEN
    return f"{cause}: {remedy}" if re.search(sign, text) else None


def logged(logs: Path | None) -> str:
    """The ends of Ray's logs of errors; empty where there are none."""
    found = (
        sorted(logs.glob("*.err")) + sorted(logs.glob("dashboard*.log")) + sorted(logs.glob("*.out")) if logs else []
    )
    return "\n".join(tail for path in found if (tail := _tail(path)))


def _tail(path: Path) -> str:
    try:
        return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if path.is_file() else ""
    except OSError:
        return ""


def _limit_in(logs: Path | None) -> tuple[str, str] | None:
    return _cause(logged(logs), _LIMITS)


def _cause(text: str, causes: Sequence[tuple[str, str, str]] = _CAUSES) -> tuple[str, str] | None:
    return next(((cause, remedy) for sign, cause, remedy in causes if re.search(sign, text)), None)


def _short(text: str) -> str:
    return text if len(text) <= REASON_CHARACTERS else f"{text[:REASON_CHARACTERS]} ..."


def _quoted(text: str) -> str:
    """The path that the error names, if any."""
    paths = re.findall(r"'(/[^']+)'|: (/\S+)$", text)
    return f" ({paths[0][0] or paths[0][1]})" if paths else ""


def _logs(logs: Path | None, log: str) -> list[str]:
    """Where to read more: the file that the part writes, or the folder where that is not there."""
    if logs is None or not logs.is_dir():
        return []
    file = logs / log
    return [f"its log: {file if log and file.is_file() else logs}"]
