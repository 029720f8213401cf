import json
import subprocess

import pytest

from tests.audit import packages as audit

CLEAN = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}]}


@pytest.mark.parametrize(
    ("answers", "text", "status"),
    [
        ([CLEAN] * 3, "audited: nothing known against 3 of 3 packages", 0),
        ([CLEAN], "audited: nothing known against 1 of 3 packages; not audited: 2 that the service does not know", 0),
        ([], "not audited: no vulnerability service answered for the 3 packages of constraints.txt", 0),
        ([CLEAN, BAD], "known to be vulnerable:\nb 2: CVE-1", 1),
    ],
)
def test_silence_is_no_audit_and_a_vulnerability_is_a_failure(answers, text, status):
    assert audit.verdict(answers, 3) == (text, status)


@pytest.mark.parametrize(
    "printed", ["", "Traceback ...", json.dumps({"dependencies": [{"name": "a", "skip_reason": "?"}]})]
)
def test_packages_that_the_service_does_not_know_are_not_answers(monkeypatch, printed):
    done = subprocess.CompletedProcess([], 0, stdout=printed)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert audit.ask("pypi") == []
