"""
Write ``postgresql.sql.gz`` and ``sqlite.sql.gz``: what the migrations of a release make of an empty database.

    python tests/old_release/make.py CHECKOUT postgres://postgres@127.0.0.1:5432/EMPTY_DATABASE

where CHECKOUT is a worktree of the release, with its own ``.venv``.
"""

import gzip
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

FOLDER = Path(__file__).parent


def migrate(checkout: Path, database_url: str) -> None:
    subprocess.run(
        [checkout / ".venv/bin/python", "manage.py", "migrate", "-v0"],
        cwd=checkout,
        env={**os.environ, "DEBUG": "1", "DATABASE_URL": database_url},
        check=True,
    )


def write(vendor: str, text: str) -> None:
    """Write without a time, so that the same is the same file."""
    (FOLDER / f"{vendor}.sql.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main(checkout: Path, postgresql_url: str) -> None:
    migrate(checkout, postgresql_url)
    command = ["pg_dump", "--inserts", "--no-owner", "--no-privileges", "--no-comments", postgresql_url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    write("postgresql", re.sub(r"^(\\(un)?restrict .*|--.*|)\n", "", text, flags=re.MULTILINE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.sqlite3"
        migrate(checkout, f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as database:
            write("sqlite", "\n".join(database.iterdump()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
