"""Identifiers that sort by time, according to RFC 9562, section 5.7."""

import os
import time
import uuid
from datetime import datetime

__all__ = ["first_uuid7_at", "uuid7"]


def uuid7() -> uuid.UUID:
    """Return a new version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits."""
    return _compose(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))


def first_uuid7_at(moment: datetime) -> uuid.UUID:
    """Return the smallest version 7 UUID of the millisecond of ``moment``, for comparisons."""
    return _compose(int(moment.timestamp() * 1000), 0)


def _compose(milliseconds: int, random_bits: int) -> uuid.UUID:
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62 & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits & (1 << 62) - 1
    return uuid.UUID(int=value)
