"""The other side: what it was told stays told, whatever becomes of who told it."""

import os
from pathlib import Path

BOOK = Path(os.environ["HARNESS_BOOK"])


def send(what: str) -> None:
    with BOOK.open("a") as file:
        file.write(f"{what}\n")


def sent(what: str) -> int:
    return BOOK.read_text().splitlines().count(what) if BOOK.exists() else 0
