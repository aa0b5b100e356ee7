"""Kinds of errors: what distinguishes them, and a fingerprint for each kind of each task."""

import hashlib
import re

#: What differs between two errors of one kind: quoted text, ids, numbers and mail addresses.
PARTICULARS = re.compile(
    r"""'[^']*'|"[^"]*"|\b(?:0x[0-9a-fA-F]+|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[0-9]+(?:[.,:][0-9]+)*)"""
)
ADDRESSES = re.compile(r"\S+@\S+")


def kind_of(error: str) -> str:
    """Return what ``error`` shares with others of its kind: its first line without variable parts."""
    line = error.partition("\n")[0]
    if "@" in line:
        line = ADDRESSES.sub("…", line)
    return PARTICULARS.sub("…", line)


def fingerprint_of_error(name: str, error: str) -> str:
    """Return the fingerprint of the kind of ``error`` of the task ``name``."""
    return hashlib.sha256(f"{name} {kind_of(error)}".encode(errors="replace")).hexdigest()[:16]
