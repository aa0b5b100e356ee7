"""
Encryption of secrets in the database, with a key derived from ``SECRET_KEY``.

They cannot be stored as digests, like passwords, because every message is signed with one. The database or a copy of it
is not enough to sign: that also takes the settings. A secret that was sealed under a key in ``SECRET_KEY_FALLBACKS``
can still be read; a secret that can no longer be read becomes an empty string, and its endpoint needs a new one.
"""

import base64
import hmac
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

#: Prefix of encrypted values. Values without it were written in plain text by an earlier release.
PREFIX: Final = "sealed:"


def seal(secret: str) -> str:
    """Encrypt a secret; an empty one stays empty."""
    return PREFIX + _cipher().encrypt(secret.encode()).decode() if secret else ""


def unseal(text: str) -> str:
    """Decrypt a secret; return an empty string if none of our keys fits."""
    if not text.startswith(PREFIX):
        return text
    try:
        return _cipher().decrypt(text.removeprefix(PREFIX)).decode()
    except InvalidToken:
        return ""


def _cipher() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet(
        Fernet(base64.urlsafe_b64encode(hmac.digest(key.encode(), b"webhooks.sealing", "sha256"))) for key in keys
    )


class SealedField(models.CharField):
    """A text field that is encrypted in the database. It cannot be used in lookups."""

    def from_db_value(self, value: str | None, *_: Any) -> str | None:
        return None if value is None else unseal(value)

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if value is None or value.startswith(PREFIX) else seal(value)
