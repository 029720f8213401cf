import json
import subprocess

import pytest

from tests.audit import packages as audit
from tests.support.paths import ROOT

CLEAN = {"name": "a", "version": "1", "vulns": []}
KNOWN = {"name": "r", "version": "3", "vulns": [{"id": "GHSA-1", "aliases": ["CVE-2023-48022"]}]}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}]}


@pytest.mark.parametrize(
    ("answers", "text", "status"),
    [
        ([CLEAN] * 3, "audited: nothing known against 3 of 3 packages", 0),
        ([CLEAN], "audited: nothing known against 1 of 3 packages; not audited: 2 that the service does not know", 0),
        ([], "not audited: no vulnerability service answered for the 3 packages of constraints.txt", 0),
        ([CLEAN, BAD], "known to be vulnerable:\nb 2: CVE-1", 1),
        ([CLEAN, BAD, KNOWN], "known to be vulnerable:\nb 2: CVE-1", 1),
        (
            [CLEAN, CLEAN, KNOWN],
            "audited: nothing known against 2 of 3 packages\nanswered in SECURITY.md: r 3: GHSA-1",
            0,
        ),
    ],
)
def test_silence_is_no_audit_and_a_vulnerability_is_a_failure(answers, text, status):
    assert audit.verdict(answers, 3) == (text, status)


def test_what_is_said_to_be_answered_is():
    answers = (ROOT / "SECURITY.md").read_text()
    assert {name for name in audit.ANSWERED if name not in answers} == set()


@pytest.mark.parametrize(
    "printed", ["", "Traceback ...", json.dumps({"dependencies": [{"name": "a", "skip_reason": "?"}]})]
)
def test_packages_that_the_service_does_not_know_are_not_answers(monkeypatch, printed):
    done = subprocess.CompletedProcess([], 0, stdout=printed)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert audit.ask("pypi") == []
