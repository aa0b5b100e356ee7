"""The external provider: its effects persist, whatever happens to the caller."""

import os
from pathlib import Path

BOOK = Path(os.environ["HARNESS_BOOK"])


def send(what: str) -> None:
    with BOOK.open("a") as file:
        file.write(f"{what}\n")


def sent(what: str) -> int:
    return BOOK.read_text().splitlines().count(what) if BOOK.exists() else 0
