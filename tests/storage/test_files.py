"""What is read of files that others wrote, and how they are refused."""

import os
import socket

import pytest

from raycifar.errors import InputError
from raycifar.storage.files import open_file, read_file
from raycifar.texts import printable


def test_a_file_is_read_whole_if_it_is_as_long_as_allowed(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"


def test_a_longer_file_is_refused_with_the_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1001)
    with pytest.raises(OSError, match="larger than 1,000 bytes") as refusal:
        read_file(tmp_path / "a", 1000)
    assert refusal.value.filename == str(tmp_path / "a")


def test_a_pipe_that_nobody_writes_into_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a file but a pipe"):
        open_file(tmp_path / "pipe")


def test_a_device_that_never_ends_is_refused():
    with pytest.raises(OSError, match="not a file but a pipe, a device"):
        read_file("/dev/zero", 1000)


def test_a_folder_and_a_socket_are_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("", "socket"):
            with pytest.raises(OSError, match=r"."):
                open_file(tmp_path / name)


def test_a_message_has_the_lines_it_was_given_whatever_they_quote():
    message = str(InputError("key 'a\nb'\r: \x1b[2J", "Grüße, 漢字 \u202e"))
    assert message == "key 'a\\nb'\\r: \\x1b[2J\nGrüße, 漢字 \\u202e"


def test_what_can_be_printed_stays_as_it_is():
    assert printable("ok: 93.4 % ± 0.1 – “é”") == "ok: 93.4 % ± 0.1 – “é”"
