"""What a page of ``docs/reference`` says of a run: when it was, of which code, and its row in the table."""

import subprocess
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from tests.processes import ROOT


def run_on() -> str:
    """Return today and this commit, and whether the package was changed since."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = ", changed" if _git("status", "--porcelain", "--", "celery_ledger") else ""
    return f"{datetime.now(tz=UTC):%-d %B %Y}, {commit}{changed}"


def keep_row(page: Path, header: str, begin: str, row: str) -> None:
    """Put ``row`` into the table below ``header``, in place of the row that begins in the same way."""
    text = page.read_text()
    if text.count(header) != 1:
        raise ValueError(f"{page.name} has {text.count(header)} tables with this header:\n{header}")
    before, after = text.split(header)
    rows = list(takewhile(lambda line: line.startswith("|"), after.splitlines(keepends=True)))
    rest = after.removeprefix("".join(rows))
    kept = [line.rstrip("\n") for line in rows if not line.startswith(begin)]
    page.write_text(before + header + "\n".join(sorted([*kept, row])) + "\n" + rest)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
