"""When a page of ``docs/reference`` was last written, and of which code."""

import subprocess
from datetime import UTC, datetime

from tests.processes import ROOT


def run_on() -> str:
    """Return today and this commit, and whether the package was changed since."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = ", changed" if _git("status", "--porcelain", "--", "celery_ledger") else ""
    return f"{datetime.now(tz=UTC):%-d %B %Y}, {commit}{changed}"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
