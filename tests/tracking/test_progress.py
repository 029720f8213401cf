import io
import os
import pty
import re
import socket
import subprocess
import sys

import pytest
from rich.console import Console

from raycifar.config.sweep import TrialSpec
from raycifar.storage.records import EpochRecord, History, TrialSummary
from raycifar.tracking import live_table
from raycifar.tracking.listener import Listener
from tests.support.progress import Progress


def trials(*names, epochs=3, repeats=None):
    data = {"measure_training": False}
    return [
        TrialSpec(name=name, arm=name[:8], seed=1, epochs=epochs, model={"weights": "random"}, data=data)
        for name in names or [f"transfer-{i + 1}" for i in range(repeats)]
    ]


def record(epoch, seconds=12.1, **changes):
    figures = {"lr": 0.01, "train_loss": 1.0, "train_accuracy": 0.912, "val_loss": 1.0, "val_accuracy": 0.9011}
    times = {"train_seconds": seconds - 2, "val_seconds": 1.5, "checkpoint_seconds": 0.5, "finished_at": 0.0}
    return EpochRecord(**{"epoch": epoch, "images_per_second": 312.4} | figures | times | changes)


def summary(trial):
    known = {"trial": trial, "best_epoch": 2, "test_accuracy": 0.9203}
    return TrialSummary(**dict.fromkeys(TrialSummary.__annotations__, 0) | known)


@pytest.fixture
def clock(monkeypatch):
    """The seconds that progress believes to have passed, as a list of one."""
    now = [100.0]
    monkeypatch.setattr(live_table.time, "monotonic", lambda: now[0])
    return now


def piped():
    return Console(file=io.StringIO(), width=80)


def terminal(width=80, height=25):
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=True, force_interactive=True)


def lines(console):
    return console.file.getvalue().splitlines()


def painted(progress):
    """What the live table sends to the terminal now."""
    with progress.console.capture() as capture:
        progress.console.print(progress.view())
    return capture.get()


def screen(progress):
    """What the live table shows now, without colours."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", painted(progress)).splitlines()]


# A pipe, a log, CI --------------------------------------------------------------------------------------------------


def test_a_pipe_gets_one_line_an_epoch_however_long():
    name = "transfer-" + "x" * 40
    with Progress(trials(name, epochs=15), piped()) as progress:
        progress.epoch(name, record(3))
    assert lines(progress.console) == [f"{name}  epoch 3/15  train 91.2 %  val 90.1 %  lr 0.0100  312 images/s  12.1 s"]


def test_a_pipe_gets_one_line_a_change_of_state():
    with Progress(trials("a", "b"), piped()) as progress:
        progress.state("a", "starting")
        progress.state("a", "starting")
        progress.state("b", "resumed", "after epoch 2")
        progress.summary("a", summary("a"))
    assert lines(progress.console) == [
        "a  starting",
        "b  resumed  after epoch 2",
        "a  done  test 92.0 %, best epoch 2",
    ]


def test_a_note_stays_one_line_and_its_brackets_and_control_characters_are_harmless():
    note = "bad [bold]input[/bold]:\n\t\x1b[31mline two\x07 " + "x" * 100
    with Progress(trials("a"), piped()) as progress:
        progress.state("a", "failed", note)
    assert lines(progress.console) == ["a  failed  bad [bold]input[/bold]: [31mline two " + "x" * 100]


def test_a_small_learning_rate_is_not_rounded_to_zero():
    with Progress(trials("a"), piped()) as progress:
        progress.epoch("a", record(1, lr=3e-6))
    assert "lr 3.00e-06" in lines(progress.console)[0]


def test_a_listener_that_fails_hears_no_more_and_the_others_do():
    class Full(Listener):
        def state(self, *_):
            raise OSError(28, "No space left on device")

    class Heard(Listener):
        def __init__(self):
            self.states = []

        def state(self, trial, state, note=""):
            self.states.append(state)

    heard = Heard()
    with Progress(trials("a"), Console(file=io.StringIO(), width=200), listeners=[Full(), heard]) as progress:
        progress.state("a", "starting")
        progress.state("a", "training")
    assert heard.states == ["starting", "training"]
    said = [line for line in lines(progress.console) if "Full" in line]
    assert said == ["Full stopped logging this sweep: [Errno 28] No space left on device"]


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress(trials("a"), Console(file=io.StringIO(), force_terminal=True)) as progress:
        progress.state("a", "starting")
    assert lines(progress.console) == ["a  starting"]


# A terminal -----------------------------------------------------------------------------------------------------------


def running(console):
    progress = Progress(trials("transfer-1", "scratch"), console)
    progress.place("transfer-1", [f"{socket.gethostname()}:3"])
    progress.epoch("transfer-1", record(1, seconds=12))
    return progress


def test_at_160_columns_every_column_is_there(clock):
    header, first, second, last = screen(running(terminal(160)))
    assert header.split() == ["trial", "epoch", "train", "val", "trend", "lr", "images/s", "GPU", "state", "ETA"]
    assert re.fullmatch(r"transfer-1  \S+ +1/3 +91.2 % +90.1 %  ▁ +0.0100 +312 +3  training +0:00:24", first)
    assert re.fullmatch(r"scratch     \S+ +0/3 +waiting", second)
    assert (
        last == "0 of 2 trials done, 0 failed  elapsed 0:00:00  ETA ~0:01:12"
    )  # 2 epochs and a test, then 3 and a test


def test_at_80_columns_learning_rate_speed_and_gpu_give_way(clock):
    header, first, *_ = screen(running(terminal(80)))
    assert header.split() == ["trial", "epoch", "train", "val", "trend", "state", "ETA"]
    assert re.fullmatch(r"transfer-1  \S{6,} +1/3 +91.2 % +90.1 %  ▁ +training +0:00:24", first)


def test_the_narrower_the_terminal_the_fewer_columns_and_those_that_matter_most_stay_longest(clock):
    columns, gone = ["lr", "GPU", "images/s", "trend", "train", "ETA", "val", "epoch"], []
    for width in range(160, 20, -1):
        names = screen(running(terminal(width)))[0].split()
        gone += [name for name in columns if name not in [*names, *gone]]
    assert gone == columns


def test_the_bar_takes_the_room_that_is_left_up_to_thirty_cells(clock):
    assert re.search(r"transfer-1  \S{30} ", screen(running(terminal(160)))[1])


def test_long_numbers_of_epochs_are_shown_whole():
    progress = Progress(trials("a", epochs=100_000), terminal(160))
    progress.epoch("a", record(99_999))
    assert " 99999/100000 " in screen(progress)[1]


def trend(progress, row):
    return re.search(r"[▁▂▃▄▅▆▇█]+", screen(progress)[row])[0]


def with_accuracies(console, **accuracies):
    progress = Progress(trials(*accuracies, epochs=1000), console)
    for name, values in accuracies.items():
        for i, value in enumerate(values):
            progress.epoch(name, record(i + 1, val_accuracy=value))
    return progress


def test_the_trends_of_all_trials_have_one_scale():
    progress = with_accuracies(terminal(160), a=[0.2, 0.9, 0.6], b=[0.55, 0.55])
    assert (trend(progress, 1), trend(progress, 2)) == ("▁█▅", "▅▅")


def test_a_long_trend_fits_into_its_column_and_ends_with_the_last_epoch():
    progress = with_accuracies(terminal(80), a=[0.1] * 499 + [0.9])
    assert re.fullmatch("▁{5,}█", trend(progress, 1))


def test_a_terminal_without_blocks_gets_no_trend():
    plain = Console(
        file=io.TextIOWrapper(io.BytesIO(), "ascii"), width=160, force_terminal=True, force_interactive=True
    )
    assert "trend" not in screen(with_accuracies(plain, a=[0.1]))[0]


def test_a_trial_on_another_node_or_on_several_gpus_says_which(clock):
    progress = running(terminal(160))
    progress.place("scratch", ["node-2:0", "node-2:1"])
    assert "node-2:0,node-2:1  training" in screen(progress)[2]
    progress.place("scratch", ["cpu-node-7:0"])
    assert "cpu-node-7:0  training" in screen(progress)[2]
    progress.place("scratch", [f"{socket.gethostname()}:cpu"])
    assert "cpu  training" in screen(progress)[2]


def test_after_its_last_epoch_a_trial_is_tested():
    progress = Progress(trials("a", epochs=2), terminal())
    progress.epoch("a", record(2))
    assert "testing" in screen(progress)[1]


def test_quiet_lets_through_what_others_print(capsys):
    with Progress(trials("a"), Console(force_terminal=True, force_interactive=True, quiet=True)):
        print("a warning of Ray's")
    assert capsys.readouterr().out == "a warning of Ray's\n"


def test_quiet_prints_nothing_but_the_listeners_hear():
    class Ear(Listener, list):
        def state(self, *heard):
            self.append(heard)

        epoch = summary = state

    ear, console = Ear(), Console(file=io.StringIO(), force_terminal=True, force_interactive=True, quiet=True)
    with Progress(trials("a", epochs=1), console, listeners=[ear]) as progress:
        progress.state("a", "starting")
        progress.epoch("a", one := record(1))
        progress.summary("a", end := summary("a"))
    assert lines(console) == []
    assert ear == [
        ("a", "starting", ""),
        ("a", one),
        ("a", "testing", ""),
        ("a", end),
        ("a", "done", "test 92.0 %, best epoch 2"),
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 100, 120, 160, 300])
@pytest.mark.parametrize("epochs", [3, 100_000])
@pytest.mark.parametrize("name", ["a", "transfer-1", "x" * 64])
def test_no_line_wraps_and_none_is_wider_than_the_terminal(width, epochs, name):
    progress = Progress(trials(name, "b", epochs=epochs), terminal(width))
    progress.epoch(name, record(epochs, images_per_second=1234567.0))
    progress.state(name, "testing", "a very long note " * 20)
    shown = screen(progress)
    assert len(shown) == 4
    assert max(len(line) for line in shown) <= width


def test_a_long_name_keeps_its_end_where_repeats_differ():
    first, second = screen(Progress(trials("x" * 60 + "-1", "x" * 60 + "-2"), terminal(80)))[1:3]
    assert first.split()[0] == f"..{'x' * 12}-1"  # a fifth of the line at most
    assert second.split()[0] == f"..{'x' * 12}-2"


def test_what_runs_is_shown_where_not_all_trials_fit():
    progress = Progress(trials(repeats=50), terminal(80, height=10))
    progress.state("transfer-50", "training")
    progress.state("transfer-49", "failed")
    shown = screen(progress)
    assert len(shown) == 9
    assert [line.split()[0] for line in shown[1:4]] == ["transfer-50", "transfer-49", "transfer-1"]
    assert shown[-1].startswith("43 more not shown, 0 of 50 trials done, 1 failed")


def test_a_resumed_trial_shows_its_last_epoch_but_no_time_of_an_earlier_session():
    progress = Progress(trials("a"), terminal(), {"a": History([record(1), record(2)])})
    progress.state("a", "resumed")
    assert re.fullmatch(r"a      \S+ +2/3 +91.2 % +90.1 %  ▁▁ +resumed", screen(progress)[1])


def test_a_finished_trial_shows_its_test_accuracy():
    progress = Progress(trials("a"), terminal(120))
    progress.summary("a", summary("a"))
    shown = screen(progress)
    assert shown[1].endswith("  test 92.0 %, best epoch 2")
    assert "done" not in shown[1]
    assert shown[2].startswith("1 of 1 trials done, 0 failed")


def test_a_failure_is_red():
    progress = Progress(trials("a"), terminal(120))
    progress.state("a", "failed", "why")
    assert "\x1b[1;31mfailed  why" in painted(progress)


def test_a_failure_is_printed_in_full_above_the_table():
    with Progress(trials("a"), terminal(80)) as progress:
        progress.state("a", "failed", "the loss of epoch 2, step 17 is not finite: lower the learning rate")
    assert "a  failed  the loss of epoch 2, step 17 is not finite: lower the learning rate" in " ".join(
        lines(progress.console)
    )


# Time left ------------------------------------------------------------------------------------------------------------


def eta(progress, row):
    return re.search(r"[\d:]+$", screen(progress)[row])[0]


def test_the_time_left_is_the_mean_epoch_times_the_epochs_left(clock):
    progress = Progress(trials("a", epochs=12), terminal())
    progress.epoch("a", record(1, seconds=10))
    progress.epoch("a", record(2, seconds=20))
    assert eta(progress, 1) == "0:02:30"


def test_the_time_left_counts_down_but_not_below_the_epochs_after_this_one(clock):
    progress = Progress(trials("a", epochs=3), terminal())
    progress.epoch("a", record(1, seconds=60))
    clock[0] += 25
    assert eta(progress, 1) == "0:01:35"
    clock[0] += 1000
    assert eta(progress, 1) == "0:01:00"


def test_the_sweep_takes_as_long_as_its_longest_trial_when_all_run_at_once(clock):
    progress = Progress(trials("a", epochs=2) + trials("b", epochs=11), terminal())
    progress.epoch("a", record(1, seconds=60))
    progress.epoch("b", record(1, seconds=60))
    assert eta(progress, -1) == "0:10:06"  # with the test


def test_the_sweep_takes_the_sum_when_one_trial_runs_at_a_time(clock):
    progress = Progress(trials("a", "b", "c"), terminal())
    progress.epoch("a", record(1, seconds=60))
    assert eta(progress, -1) == "0:08:18"  # with three tests


def test_the_time_left_counts_a_pass_over_the_training_images(clock):
    (trial,) = trials("a", epochs=11)
    measures = trial.model_copy(update={"data": trial.data.model_copy(update={"measure_training": True})})
    progress = Progress([measures], terminal())
    progress.epoch("a", record(1, seconds=60))
    assert eta(progress, -1) == "0:10:20"  # with the test, and nine times as many images as are held out


@pytest.mark.parametrize("over", ["testing", "done", "failed"])
def test_a_trial_that_trains_no_more_has_no_time_left(clock, over):
    progress = Progress(trials("a"), terminal())
    progress.epoch("a", record(1))
    progress.state("a", over)
    assert "ETA" not in screen(progress)[-1]
    assert screen(progress)[1].endswith(over)


def test_a_trial_whose_last_epoch_has_ended_has_no_time_left_whatever_it_does_next(clock):
    progress = Progress(trials("a"), terminal())
    progress.epoch("a", record(3))
    progress.state("a", "training")
    clock[0] += 5
    assert screen(progress)[1].endswith("training")


def test_a_trial_that_was_left_in_the_middle_has_no_time_left(clock):
    with Progress(trials("a"), terminal()) as progress:
        progress.epoch("a", record(1))
    assert screen(progress)[1].endswith("training")


def test_a_time_has_hours_minutes_and_seconds():
    assert [live_table.clock(seconds) for seconds in (3.6, 3723, 360_000)] == ["0:00:04", "1:02:03", "100:00:00"]


# A real terminal ------------------------------------------------------------------------------------------------------

ENDS_WITH_AN_ERROR = """
from raycifar.tracking.terminal import Terminal
from raycifar.config.sweep import TrialSpec
with Terminal([TrialSpec(name="a", arm="a", seed=1, epochs=3, model={"weights": "random"})]) as progress:
    progress.console.print("printed by others")
    raise SystemExit(3)
"""


def in_a_terminal(code):
    """The status and output of Python code whose standard output is a pseudo-terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        output = b""
        while chunk := read_or_end(ours):
            output += chunk
    os.close(ours)
    return process.returncode, output.decode()


def read_or_end(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way to say that the other side has closed
        return b""


def test_leaving_with_an_error_shows_the_cursor_again_and_keeps_what_was_printed():
    status, output = in_a_terminal(ENDS_WITH_AN_ERROR)
    assert status == 3
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1
    assert output.index("printed by others") < output.rindex("0 of 1 trials done")
    assert output.endswith(("\x1b[?25h", "\n"))
