"""Signatures according to Standard Webhooks, and their secrets."""

import base64
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32


def make_secret() -> str:
    """Return a new secret: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


#: How far a message's timestamp may differ from our clock, in seconds.
TOLERANCE: Final = 300


def is_genuine(keys: Sequence[str], *, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether one of ``keys`` signed a received message, within the last minutes."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch(r"[!-~]{1,100}", message_id) or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        return False
    if abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    wanted = sign(keys, message_id=message_id, timestamp=int(timestamp), body=body)["webhook-signature"].split(" ")
    given = headers.get("webhook-signature", "").encode("utf-8", "replace")[:2_000].split(b" ")
    return any(hmac.compare_digest(each.encode(), other) for each in wanted for other in given)


def sign(keys: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return a message's headers: its id, the time of this attempt, and a signature for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(base64.b64decode(key.removeprefix(PREFIX)), signed, sha256)).decode()
        for key in keys
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
