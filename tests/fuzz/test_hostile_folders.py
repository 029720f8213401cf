"""Half a minute of hostile folders, always the same ones; `make fuzz` has ten minutes of others."""

import os
import time

import pytest

from tests.fuzz.hostile_folders import Folders, called, fault, folders
from tests.support.canaries import canaries, seen

SECONDS = 30.0


@pytest.fixture(scope="module")
def there():
    with folders() as made:
        yield made


@pytest.mark.slow
def test_no_command_touches_anything_outside_a_strangers_folder_nor_ends_in_a_traceback(there: Folders) -> None:
    names, until, number = list(there.commands()), time.monotonic() + SECONDS, 0
    while number < len(names) or time.monotonic() < until:  # each command once, however slow the machine
        assert fault(there, names[number % len(names)], f"fixed/{number}") == "", f"fixed/{number}"
        number += 1


@pytest.mark.slow
def test_what_is_touched_outside_is_seen(tmp_path) -> None:
    """The comparison itself: a change of content, of mode, of time, a new and a missing file."""
    outside = tmp_path / "outside"
    canaries(outside)
    for touch in (
        lambda: (outside / "thesis.tex").write_text("other"),
        lambda: (outside / "report.md").chmod(0o600),
        lambda: os.utime(outside / "trials.csv", (1, 1)),
        (outside / "new").touch,
        (outside / "state.pt").unlink,
    ):
        before = seen(outside)
        touch()
        assert seen(outside) != before


@pytest.mark.slow
def test_two_hostile_folders_side_by_side(there: Folders) -> None:
    for number in range(3):
        assert fault(there, "two hostile folders", f"fixed/{number}") == ""
    assert called(there.commands()["two hostile folders"])[0] in (0, 2)
