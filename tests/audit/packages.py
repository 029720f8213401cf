"""Ask the package index whether a pinned version is known to be vulnerable: `make audit`, which `make check` runs.

The exit status is 1 where one is, and SECURITY.md has no answer to it. Where no service answers, the line says "not
audited" and the status is 0: a missing network must not fail the check, and must not look like a passed audit.
"""

import json
import subprocess
import sys
from typing import Any

from tests.support.paths import ROOT

CONSTRAINTS = ROOT / "constraints.txt"
SECONDS = 120
ANSWERED = {"CVE-2023-48022", "CVE-2026-58659", "CVE-2021-29063"}  # in SECURITY.md, for the pinned versions


def ask(service: str) -> list[dict[str, Any]]:
    """pip-audit's answer for each pinned package; empty where the service does not answer."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner=off", "--timeout=5", "--format=json", f"-s={service}"]
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(CONSTRAINTS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, subprocess.TimeoutExpired):
        return []
    return [answer for answer in answers if "skip_reason" not in answer]


def verdict(answers: list[dict[str, Any]], pinned: int) -> tuple[str, int]:
    """What to say, and the exit status."""
    known = {
        f"{a['name']} {a['version']}: {v['id']}": {v["id"], *v.get("aliases", [])} for a in answers for v in a["vulns"]
    }
    found = [line for line, names in known.items() if not names & ANSWERED]
    if found:
        return "\n".join(["known to be vulnerable:", *found]), 1
    if not answers:
        return f"not audited: no vulnerability service answered for the {pinned} packages of constraints.txt", 0
    answered = "".join(f"\nanswered in SECURITY.md: {line}" for line in known)
    rest = f"; not audited: {pinned - len(answers)} that the service does not know" if len(answers) < pinned else ""
    sound = len([answer for answer in answers if not answer["vulns"]])
    return f"audited: nothing known against {sound} of {pinned} packages{rest}{answered}", 0


def main() -> int:
    text, status = verdict(ask("pypi") or ask("osv"), len(CONSTRAINTS.read_text().split()))
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
