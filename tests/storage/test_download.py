"""Files from elsewhere, in no other machine's reach."""

import http.server
import io
import os
import pickle
import socket
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from raycifar.storage import download
from tests.support.asset_files import python2_batch
from tests.support.hostile import nothing_waits_for_ever  # noqa: F401


def test_a_program_that_fails_is_quoted_and_one_that_hangs_is_stopped(tmp_path):
    with pytest.raises(RuntimeError, match="status 3: ERROR: no such package"):
        download.run_program(
            [sys.executable, "-c", "import sys; print('ERROR: no such package', file=sys.stderr); exit(3)"],
            tmp_path,
            30,
        )
    with pytest.raises(RuntimeError, match="did not finish within 0 s"):
        download.run_program([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, 0.2)


def test_a_host_that_never_answers_costs_the_time_out_only(monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1"):
        download.connect(f"http://127.0.0.1:{silent.getsockname()[1]}/file")


def test_what_a_host_answers_is_told(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as host:
        threading.Thread(target=host.handle_request).start()
        with pytest.raises(ConnectionError, match=r"/file: HTTP Error 501: Unsupported method"):
            download.connect(f"http://127.0.0.1:{host.server_port}/file")


def test_a_name_look_up_that_hangs_costs_the_time_out_only(monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(3))
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"http://nowhere\.invalid/file: TimeoutError"):
        download.connect("http://nowhere.invalid/file")
    assert time.monotonic() - started < 2


def test_a_download_arrives_whole(serve, tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    download.download(f"{serve(tmp_path)}/file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"12345", "a.tgz has 5 bytes, expected 6"),
        (b"123457", "a.tgz has sha256 .*, expected 8d969e"),
        (b"<!DOCTYPE html><p>Log in", "it looks like a web page"),
    ],
)
def test_a_file_of_another_size_or_digest_is_refused(content, complaint, tmp_path):
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        download.verify("a.tgz", tmp_path / "a.tgz", "8d969e", 6)


def test_a_file_of_the_right_size_and_digest_passes():
    download.verify("a.tgz", b"123456", "8d969e", 6)
    download.verify("a.tgz", b"123456", "e10adc3949ba59abbe56e057f20f883e", algorithm="md5")


def test_hostile_members_of_an_archive_land_nowhere(tmp_path):
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name in ("../evil", str(tmp_path / "evil"), "wanted"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "wanted"
        tar.addfile(link)
    assert download.tar_members(folder / "a.tar", ["wanted"]) == {"wanted": b"abc"}
    with pytest.raises(ValueError, match="lacks link"):
        download.tar_members(folder / "a.tar", ["wanted", "link"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "a.tar"]


def test_the_unpickler_refuses_to_run_anything(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'evil'}",)

    with pytest.raises(pickle.UnpicklingError, match=r"system: refused"):
        download.ArraysOnly(io.BytesIO(pickle.dumps([Hostile()]))).load()
    assert not (tmp_path / "evil").exists()


def test_the_unpickler_reads_what_python_2_wrote():
    images, labels = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3, 32, 32), np.array([6, 9])
    batch = download.ArraysOnly(io.BytesIO(python2_batch(images, labels)), encoding="latin1").load()
    np.testing.assert_array_equal(batch["data"].reshape(2, 3, 32, 32), images)
    assert batch["labels"] == [6, 9]
