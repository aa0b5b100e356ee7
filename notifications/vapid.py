"""The key by which push services know this shop (VAPID, RFC 8292)."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.checks import Error, register


def decode(text: str) -> bytes:
    """
    Return the bytes of base64url without padding.

    Raises:
        ValueError: it is not base64url.
    """
    if not text.isascii() or set("+/") & set(text):
        raise ValueError("This is not base64url.")
    return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


def encode(data: bytes) -> str:
    """Return base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def private_key() -> ec.EllipticCurvePrivateKey | None:
    """
    Return the shop's key, or None if there is none: then it sends no pushes.

    ``VAPID_PRIVATE_KEY``; in development, if that is not set, a key that is generated once and kept under var/.
    """
    text = settings.VAPID_PRIVATE_KEY
    if not text and settings.DEBUG:
        text = _kept_key(Path(settings.VAR_DIR) / "vapid.key")
    return _parse(text) if text else None


def public_key() -> str | None:
    """Return the public key in the form that browsers expect, or None."""
    key = private_key()
    if key is None:
        return None
    return encode(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def generate() -> str:
    """Return a new private key in the form of ``VAPID_PRIVATE_KEY``."""
    return encode(ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32))


@register()
def check_keys(**_: Any) -> list[Error]:
    """Check that the keys in the settings are valid and match."""
    try:
        key = public_key()
    except ValueError:
        hint = "32 bytes in base64url; `python manage.py make_vapid_key` prints one."
        return [Error("VAPID_PRIVATE_KEY is not a private key.", hint=hint, id="notifications.E001")]
    if settings.VAPID_PUBLIC_KEY and settings.VAPID_PUBLIC_KEY.rstrip("=") != key:
        hint = "Remove VAPID_PUBLIC_KEY: it is derived from the private key."
        return [Error("VAPID_PUBLIC_KEY does not match VAPID_PRIVATE_KEY.", hint=hint, id="notifications.E002")]
    return []


@cache
def _parse(text: str) -> ec.EllipticCurvePrivateKey:
    data = decode(text)
    if len(data) != 32:
        raise ValueError("A private key must have 32 bytes.")
    return ec.derive_private_key(int.from_bytes(data), ec.SECP256R1())


def _kept_key(path: Path) -> str:
    """Return the key stored in a file; if several processes start without one, the first creates it."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{uuid4().hex}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(generate())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()
