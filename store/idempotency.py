"""
One response for each idempotency key of a user, within 24 hours.

Called by the checkout, and by :mod:`store.once` for everything else, inside their transaction: :func:`recall` first,
:func:`remember` last. The key's row is committed together with what was created, so a failed request leaves its key
free.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, connection
from django.utils import timezone

from store.contention import LostRace
from store.models import IdempotencyKey
from store.refusals import KeyInUse, KeyReused
from store.round_trips import one_round_trip

#: How long a key is remembered.
LIFETIME: Final = timedelta(hours=24)
#: How many rows one transaction deletes.
BATCH: Final = 500
WELL_FORMED: Final = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True)
class Answer:
    """A response. ``replayed``: it was given before, and nothing new has happened."""

    status_code: int
    body: Any
    replayed: bool = False


@dataclass(frozen=True)
class NamedRequest:
    """
    A request with an idempotency key. ``fingerprint``, such as the body's SHA-256, identifies its content.

    Users who are not signed in are identified by ``visitor``, the SHA-256 of their address.
    """

    user_id: int | None
    key: str
    fingerprint: str
    visitor: str = ""


def fingerprint_of_body(body: object) -> str:
    """Return the SHA-256 of a JSON value, independent of white space and the order of keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def recall(request: NamedRequest) -> Answer | None:
    """
    Return the response stored under this key, or lock the key until the transaction ends and return None.

    Raises:
        KeyReused: the key was used with another body.
        KeyInUse: a request under this key is running in another transaction.
    """
    is_known, is_ours = _look_up(request)
    if is_known:
        owned: dict[str, Any] = {"user_id": request.user_id, "visitor": request.visitor, "key": request.key}
        row = IdempotencyKey.objects.filter(**owned).first()
        if row and row.created_at > timezone.now() - LIFETIME:
            if row.fingerprint != request.fingerprint:
                raise KeyReused
            return Answer(row.status_code, row.body, replayed=True)
        if row and is_ours:
            row.delete()
    if not is_ours:
        raise KeyInUse
    return None


def remember(request: NamedRequest, answer: Answer) -> None:
    """
    Store ``answer`` under the key, in the current transaction.

    Raises:
        LostRace: another request under this key was answered meanwhile.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO store_idempotencykey (user_id, visitor, key, fingerprint, status_code, body, created_at)
                VALUES (%s, %s, %s, %s, %s, %s, %s)
                """,
                [
                    request.user_id,
                    request.visitor,
                    request.key,
                    request.fingerprint,
                    answer.status_code,
                    json.dumps(answer.body),
                    connection.ops.adapt_datetimefield_value(timezone.now()),
                ],
            )
    except IntegrityError as error:
        raise LostRace from error


def prune() -> Iterator[int]:
    """Delete expired keys in small transactions; yield the number deleted in each."""
    old = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - LIFETIME).order_by("created_at")
    while ids := list(old.values_list("pk", flat=True)[:BATCH]):
        yield IdempotencyKey.objects.filter(pk__in=ids).delete()[0]


def _look_up(request: NamedRequest) -> tuple[bool, bool]:
    """
    Return whether the key has a row, and whether this transaction now holds the key.

    PostgreSQL: an advisory lock that is tried, not waited for. It is released after the commit is visible, but the row
    is looked up a moment earlier, in the same statement; the unique constraint stops whatever slips in between. SQLite:
    only one transaction writes at a time, so no other request holds the key.
    """
    if connection.vendor != "postgresql":
        return True, True
    if request.user_id is not None:
        owner, whose = str(request.user_id), "user_id = %s"
    else:
        owner, whose = request.visitor, "user_id IS NULL AND visitor = %s"
    name = hashlib.sha256(f"idempotency {owner} {request.key}".encode()).digest()
    with connection.cursor() as cursor:
        with one_round_trip():
            cursor.execute(
                f"""
                SELECT EXISTS (SELECT 1 FROM store_idempotencykey WHERE {whose} AND key = %s),
                       pg_try_advisory_xact_lock(%s)
                """,  # noqa: S608 - One of two constants is put in.
                [request.user_id or request.visitor, request.key, int.from_bytes(name[:8], signed=True)],
            )
        is_known, is_ours = cursor.fetchone()
    return is_known, is_ours
