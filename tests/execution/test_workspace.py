"""Who may use a sweep's folder. Finished sweeps are synthetic (see sweep_folders): nothing here trains."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from raycifar.execution import agreement, workspace
from raycifar.execution.agreement import Call, SweepError, commit
from raycifar.execution.workspace import check_folder, opened
from raycifar.storage.files import RecordError
from raycifar.storage.folders import SweepFolder
from tests.support.sweep_folders import sweep_spec, write_sweep

ARMS = {"transfer": (2, 3), "scratch": (1, 5)}
SWEEP = sweep_spec("q", ARMS, {})
CALL = Call("local", 0, 1, "sweeps/q.toml", "vgg16.safetensors", "2 cores of a CPU", {"torch": "2.14.1"})

HOLD = """
import sys
from raycifar.storage.folders import SweepFolder
from raycifar.execution.agreement import Call
from raycifar.execution.workspace import opened
from tests.support.sweep_folders import sweep_spec
from pathlib import Path
path = Path(sys.argv[1])
command = ("python", "run_sweep.py", "sweeps/q.toml", "--local")
sweep = sweep_spec("q", {"scratch": (1, 5)}, {})
with opened(sweep, sweep, SweepFolder(path), Call("local", 0, 1, "", "", "", {}, command)):
    print("opened", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    """Where the sweep's results would go; not made yet."""
    return SweepFolder(tmp_path / "q")


@pytest.fixture
def finished(tmp_path):
    return write_sweep(tmp_path / "q", ARMS)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout with one commit, where this module seems to lie."""
    (tmp_path / "raycifar/execution").mkdir(parents=True)
    (tmp_path / "raycifar/execution/agreement.py").touch()
    monkeypatch.setattr(agreement, "__file__", str(tmp_path / "raycifar/execution/agreement.py"))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    return tmp_path


def git(path, *arguments):
    return subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def another_process_on(folder):
    """A real process that holds the folder open until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "opened\n"
        yield process
    finally:
        process.communicate()


def contents(path):
    """Every file below `path` but the lock, by its relative name."""
    files = [p for p in path.rglob("*") if p.is_file() and p.name != "sweep.lock"]
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def changed(**settings):
    """The sweep with other settings for its trial from scratch."""
    trials = tuple(t.model_copy(update=settings if t.name == "scratch" else {}) for t in SWEEP.trials)
    return SWEEP.model_copy(update={"trials": trials})


def test_a_folder_that_is_not_there_may_be_used_and_is_not_made_by_asking(folder):
    check_folder(SWEEP, folder)
    assert not folder.path.exists()


def test_an_empty_folder_may_be_used(folder):
    folder.path.mkdir()
    check_folder(SWEEP, folder)


def test_what_a_call_left_that_was_killed_before_it_wrote_a_file_may_be_used(folder):
    folder.path.mkdir()
    folder.lock.touch()
    (folder.path / ".sweep.json.1234").touch()
    check_folder(SWEEP, folder)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_refused_and_left_alone(folder, fresh):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(SweepError, match=r"q: holds something else .*choose another --name or --storage"):
        check_folder(SWEEP, folder, fresh)
    assert contents(folder.path) == {"thesis.tex": b"years of work"}


@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_in_the_folders_place_is_refused(folder, fresh):
    folder.path.write_text("a file")
    with pytest.raises(SweepError, match=r"q: is a file: choose another --name or --storage"):
        check_folder(SWEEP, folder, fresh)


def test_the_same_sweep_may_use_its_folder_again(finished):
    check_folder(SWEEP, finished)


@pytest.mark.parametrize("settings", [{"epochs": 6}, {"seed": 9}, {"label_smoothing": 0.1}])
def test_other_settings_are_refused_with_both_ways_out(finished, settings):
    with pytest.raises(SweepError, match=r"trial 'scratch' has other settings .*--name OTHER.*--fresh"):
        check_folder(changed(**settings), finished)


def test_other_settings_are_welcome_to_a_fresh_start(finished):
    check_folder(changed(epochs=6), finished, fresh=True)


def test_a_trial_may_be_added(finished):
    check_folder(sweep_spec("q", ARMS | {"more": (1, 2)}, {}), finished)


def test_a_trial_may_not_be_removed(finished):
    with pytest.raises(
        SweepError, match=r"trial 'scratch' is not in this sweep, but in the results there.*--name OTHER.*--fresh"
    ):
        check_folder(sweep_spec("q", {"transfer": (2, 3)}, {}), finished)


@pytest.mark.parametrize(
    ("error", "status"),
    [(SweepError("refused"), 2), (RecordError("damaged"), 2), (KeyboardInterrupt(), 130), (OSError("no disk"), 1)],
)
def test_the_status_on_record_is_the_one_that_the_command_returns(folder, error, status):
    with pytest.raises(type(error)), opened(SWEEP, SWEEP, folder, CALL):
        raise error
    assert [call.exit_status for call in folder.invocations()] == [status]


def test_an_added_trial_is_on_record_afterwards(finished):
    more = sweep_spec("q", ARMS | {"more": (1, 2)}, {})
    with opened(more, more, finished, CALL):
        pass
    assert finished.record().fingerprint == more.fingerprint()
    with pytest.raises(SweepError, match="'more' is not in this sweep"):
        check_folder(SWEEP, finished)


def test_settings_that_this_version_does_not_know_are_refused_with_a_way_out(finished):
    record = finished.record()
    finished.write_record(replace(record, spec={**record.spec, "of_another_version": 1}))
    with pytest.raises(SweepError, match=r"q.sweep\.json: .*of_another_version.*--name"):
        check_folder(SWEEP, finished)
    check_folder(SWEEP, finished, fresh=True)


def test_a_record_that_is_no_json_is_named(finished):
    (finished.path / "sweep.json").write_text('{"name": "q"')
    with pytest.raises(RecordError, match=r"sweep\.json: not valid JSON"):
        check_folder(SWEEP, finished)


def test_other_imagenet_weights_are_refused_and_the_first_stay_on_record(folder):
    with opened(SWEEP, SWEEP, folder, CALL):
        pass
    other = replace(CALL, weights="vgg16-0123456789abcdef.safetensors")
    with (
        pytest.raises(SweepError, match=r"vgg16\.safetensors, not vgg16-0123.*the same --weights, or .*--name"),
        opened(SWEEP, SWEEP, folder, other),
    ):
        pytest.fail("ran with other weights")
    assert folder.record().weights == "vgg16.safetensors"


def test_a_call_that_reads_no_imagenet_weights_does_not_forget_which_there_were(folder):
    for call in (CALL, replace(CALL, weights="")):
        with opened(SWEEP, SWEEP, folder, call):
            pass
    assert folder.record().weights == "vgg16.safetensors"


def test_an_open_folder_says_what_it_holds(folder):
    before = time.time()
    with opened(SWEEP, SWEEP, folder, CALL):
        record = folder.record()
    assert (record.name, record.fingerprint) == ("q", SWEEP.fingerprint())
    assert type(SWEEP).model_validate(record.spec) == SWEEP
    assert (record.source, record.hardware, record.versions) == (CALL.source, CALL.hardware, CALL.versions)
    assert before <= record.created_at <= time.time()


def test_an_open_folder_names_the_commit(folder, checkout):
    with opened(SWEEP, SWEEP, folder, CALL):
        pass
    assert folder.record().commit == git(checkout, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize("name", [".history.json.1234", f".raycifar-{'0' * 16}.part"])
def test_what_a_killed_process_wrote_in_part_is_cleared_away_by_this_call_or_the_next(finished, name):
    left = [path / name for path in (finished.path, finished.trial("scratch").path)]
    for path in left:
        path.touch()
    with opened(SWEEP, SWEEP, finished, CALL):
        assert not any(path.exists() for path in left)
        for path in left:  # as of a worker that is killed, and begins anew
            path.touch()
    assert not any(path.exists() for path in left)


def test_the_folder_keeps_the_time_of_its_first_call(finished):
    created_at = finished.record().created_at
    with opened(SWEEP, SWEEP, finished, CALL):
        pass
    assert finished.record().created_at == created_at


def test_other_settings_are_refused_also_where_another_call_began_and_ended_after_the_first_look(finished):
    other = sweep_spec("q", {"scratch": (1, 9)}, {})
    before = finished.record()
    with (
        pytest.raises(SweepError, match="is not in this sweep, but in the results there"),
        opened(other, other, finished, CALL),
    ):
        pytest.fail("two sweeps in one folder")
    assert finished.record() == before


def test_a_folder_that_another_process_works_on_is_refused_with_its_command(folder):
    with another_process_on(folder):
        with pytest.raises(SweepError, match=r"`python run_sweep\.py sweeps/q\.toml --local` works on it since \d\d:"):
            check_folder(SWEEP, folder)
        with (
            pytest.raises(SweepError, match=r"wait for it, or choose another --name"),
            opened(SWEEP, SWEEP, folder, CALL),
        ):
            pytest.fail("two calls at once")
    assert len(folder.invocations()) == 1


def test_a_call_that_is_about_to_end_is_waited_for(finished):
    lock = FileLock(finished.lock, thread_local=False)
    lock.acquire()
    threading.Timer(0.2, lock.release).start()
    check_folder(SWEEP, finished)


def test_a_fresh_start_does_not_take_the_folder_from_under_another_process(folder):
    with another_process_on(folder):
        with pytest.raises(SweepError, match="works on it"), opened(SWEEP, SWEEP, folder, CALL, fresh=True):
            pytest.fail("two calls at once")
        assert folder.path.exists()


def test_a_killed_call_holds_nothing_and_shows_as_one_that_never_ended(folder):
    with another_process_on(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with opened(sweep_spec("q", {"scratch": (1, 5)}, {}), SWEEP, folder, CALL):
            pass
    killed, after = folder.invocations()
    assert (killed.ended_at, killed.exit_status) == (None, None)
    assert after.ended_at is not None


def test_a_fresh_start_moves_the_old_results_aside_and_loses_nothing(finished, tmp_path):
    before = contents(finished.path)
    other = changed(epochs=6)
    with opened(other, other, finished, CALL, fresh=True):
        pass
    (aside,) = tmp_path.glob("q.before-*")
    assert contents(aside) == before
    assert set(contents(finished.path)) == {"sweep.json", "invocations.json"}
    assert finished.record().fingerprint == other.fingerprint()


def test_two_fresh_starts_within_a_second_keep_both_earlier_results(finished, tmp_path):
    before = contents(finished.path)
    for _ in range(3):
        with opened(SWEEP, SWEEP, finished, CALL, fresh=True):
            pass
    kept = [contents(path) for path in tmp_path.glob("q.before-*")]
    assert len(kept) == 3
    assert before in kept


def test_a_fresh_start_where_nothing_is_just_starts(folder, tmp_path):
    with opened(SWEEP, SWEEP, folder, CALL, fresh=True):
        pass
    assert list(tmp_path.iterdir()) == [folder.path]


def test_a_running_call_is_on_record_as_one_that_has_not_ended(folder):
    named = replace(CALL, command=("python", "run_sweep.py", "--name", "two words"))
    with opened(SWEEP, SWEEP, folder, named):
        (call,) = folder.invocations()
    assert call.command == "python run_sweep.py --name 'two words'"
    assert (call.runner, call.gpus, call.trials_at_once) == ("local", 0, 1)
    assert (call.ended_at, call.exit_status) == (None, None)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, 130), (RuntimeError, 1), (SystemExit, 1)])
def test_a_call_that_ends_early_is_on_record_with_its_exit_status_and_frees_the_folder(folder, error, status):
    with pytest.raises(error), opened(SWEEP, SWEEP, folder, CALL):
        raise error
    (call,) = folder.invocations()
    assert call.exit_status == status
    assert call.started_at <= call.ended_at
    check_folder(SWEEP, folder)


def test_the_exit_status_is_1_while_a_trial_of_the_call_is_unfinished_and_0_once_none_is(finished):
    summary = finished.trial("scratch").path / "summary.json"
    kept = summary.rename(summary.with_name("kept"))
    with opened(SWEEP, SWEEP, finished, CALL):
        pass
    with opened(SWEEP, SWEEP.only(["transfer"]), finished, CALL):
        pass
    with opened(SWEEP, SWEEP, finished, CALL):
        kept.rename(summary)
    assert [call.exit_status for call in finished.invocations()[1:]] == [1, 0, 0]


@pytest.mark.parametrize("name", ["a file/q", "a" * 300 + "/q"], ids=["below a file", "too long"])
def test_storage_that_cannot_hold_a_folder_is_refused_before_anything_starts(tmp_path, name):
    (tmp_path / "a file").touch()
    with pytest.raises(SweepError, match=r"choose another .*--storage"):
        check_folder(SWEEP, SweepFolder(tmp_path / name))


def test_storage_that_may_not_be_written_is_refused_before_anything_starts(folder, monkeypatch):
    monkeypatch.setattr(workspace.os, "access", lambda *_: False)  # the tests may run as root, who may all
    with pytest.raises(SweepError, match="may not be written: choose another --storage"):
        check_folder(SWEEP, folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system where nobody can make a folder")
def test_a_folder_that_cannot_be_made_is_refused():
    with (
        pytest.raises(SweepError, match=r"cannot be made .*choose another --storage"),
        opened(SWEEP, SWEEP, SweepFolder(Path("/proc/self/results")), CALL),
    ):
        pytest.fail("opened nothing")


def test_a_folder_that_may_not_be_written_is_refused(finished, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(workspace.FileLock, "acquire", denied)  # the tests may run as root, who may all
    with (
        pytest.raises(SweepError, match=r"cannot be written .*Permission denied.*choose another --storage"),
        opened(SWEEP, SWEEP, finished, CALL),
    ):
        pytest.fail("opened nothing")


def test_the_commit_is_twelve_digits_whatever_it_is_tagged(checkout):
    git(checkout, "tag", "v1")
    assert commit() == git(checkout, "rev-parse", "HEAD")[:12]


def test_a_commit_with_changes_is_marked(checkout):
    (checkout / "raycifar/execution/agreement.py").write_text("changed")
    assert commit() == git(checkout, "rev-parse", "HEAD")[:12] + "+changes"


def test_a_package_installed_below_another_projects_checkout_has_no_commit(checkout, monkeypatch):
    installed = checkout / "site-packages/raycifar/execution/agreement.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(agreement, "__file__", str(installed))
    assert commit() is None


def test_the_commit_is_none_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() is None
