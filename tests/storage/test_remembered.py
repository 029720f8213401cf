"""What was found of the user's own files is found anew whenever one of them may have changed, and only then."""

import os
import time

import pytest

from raycifar.storage import remembered
from raycifar.storage.remembered import FILE, once


@pytest.fixture
def mine(tmp_path, cache, monkeypatch):
    """A file of the user's that changed an hour ago, as every file has for `once`."""
    monkeypatch.setattr(remembered, "SETTLED_NS", 0)
    monkeypatch.setattr(remembered, "FOUND", {})
    cache.mkdir(exist_ok=True)
    (tmp_path / "mine").write_text("abc")
    return tmp_path / "mine"


@pytest.fixture
def found(mine):
    """Calls `once` as a process does that starts now; returns how often the file was read in all."""
    reads = []

    def call(path=mine, what="its length", keep=True, new_process=True):
        if new_process:
            remembered.FOUND.clear()
        assert once(lambda: reads.append(1) or str(path.stat().st_size), [path], what, keep) == str(path.stat().st_size)
        return len(reads)

    return call


def rewritten(path):
    """Other bytes of the same size, with the times of the old ones."""
    before = path.stat()
    path.write_text("xyz")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    before = path.stat()
    path.with_name("new").write_text("xyz")
    os.utime(path.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(path.with_name("new"), path)


CHANGES = {
    "longer": lambda path: path.write_text("abcd"),
    "other bytes": lambda path: path.write_text("xyz"),
    "other bytes, the old times": rewritten,
    "another file, the old times": replaced,
    "only touched": lambda path: path.touch(),
}


def test_a_file_is_read_once_by_this_process_and_by_the_next(found):
    assert [found(), found(new_process=False), found()] == [1, 1, 1]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("new_process", [True, False])
def test_a_file_that_has_changed_is_read_again(found, mine, change, new_process):
    found()
    time.sleep(0.02)  # more than a tick of the file system's clock
    change(mine)
    assert found(new_process=new_process) == 2


def test_a_file_that_changed_a_moment_ago_is_read_each_time(found, monkeypatch):
    monkeypatch.setattr(remembered, "SETTLED_NS", 10**12)
    assert [found(), found(new_process=False), found()] == [1, 2, 3]


def test_something_else_about_the_same_file_is_not_taken_for_it(found):
    assert [found(), found(what="its digest")] == [1, 2]


def test_nothing_is_written_unless_it_is_asked_for(found, cache):
    assert [found(keep=False), found(keep=False, new_process=False), found(keep=False)] == [1, 1, 2]
    assert list(cache.iterdir()) == []
    found(new_process=False)  # known already
    assert (cache / FILE).exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', "null", "[" * 10**5, "\0"])
def test_a_damaged_memory_is_none(found, cache, content):
    (cache / FILE).write_text(content)
    assert [found(), found()] == [1, 1]


@pytest.mark.parametrize("entry", [None, [], "text", [[], "../evil"], {"a": 1}])
def test_a_forged_entry_is_none(found, cache, entry):
    import json

    found()
    kept = json.loads((cache / FILE).read_text())
    ((key, (states, _)),) = kept.items()
    for each in (entry, [states, "../evil"], [states, 3], [states], [[states], "3"]):
        (cache / FILE).write_text(json.dumps({key: each}))
        before = found(keep=False)
        assert found(keep=False) == before + 1


def test_without_a_cache_a_file_is_read_by_each_process(found, monkeypatch):
    monkeypatch.setenv("RAYCIFAR_CACHE", "~nobody-at-all/cache")
    assert [found(), found(new_process=False), found()] == [1, 1, 2]


def test_no_more_than_so_many_are_kept(mine, found, cache, monkeypatch):
    monkeypatch.setattr(remembered, "MOST", 2)
    for number in range(4):
        found(what=str(number))
    assert (cache / FILE).read_text().count(str(mine)) == 2
