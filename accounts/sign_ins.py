"""
A user's sign-ins: a row for each browser session, and for each family of tokens.

Promises that a listed sign-in is valid, and that an ended one is refused from the next request on. Signing out
everywhere does not depend on these rows: it hashes the password with a new salt, which ends every session and token,
listed or not, just as a new password does.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone

from accounts import tokens
from accounts.models import SignIn
from web.clients import client_of

#: The most expired rows that are deleted with each row written, and the most rows that are listed.
SWEEP, LISTED = 100, 100
Kind = SignIn.Kind


def note_session(request: Any, user: Any) -> None:
    """Record a browser session of a user, if this request has one."""
    if request.session.get(SESSION_KEY) == str(user.pk):
        if not request.session.session_key:
            request.session.save()
        _note(request, user, Kind.SESSION, request.session.session_key, settings.SESSION_COOKIE_AGE)


def note_tokens(request: Any, user: Any, family: str) -> None:
    """Record a client's tokens."""
    lifetime: timedelta = settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"]  # type: ignore[assignment]
    _note(request, user, Kind.TOKENS, family, lifetime.total_seconds())


def note_refresh(family: str) -> None:
    """Extend the recorded lifetime of a family of tokens."""
    lifetime: timedelta = settings.SIMPLE_JWT["REFRESH_TOKEN_LIFETIME"]  # type: ignore[assignment]
    now = timezone.now()
    SignIn.objects.filter(kind=Kind.TOKENS, name=family).update(last_used_at=now, expires_at=now + lifetime)


def of_user(user: Any) -> list[SignIn]:
    """Return a user's sign-ins, newest first."""
    rows = list(SignIn.objects.filter(user=user, expires_at__gt=timezone.now()).order_by("-id")[:LISTED])
    proof = user.get_session_auth_hash()
    sessions = Session.objects.in_bulk([row.name for row in rows if row.kind == Kind.SESSION])
    ended = tokens.ended([row.name for row in rows if row.kind == Kind.TOKENS])
    listed = []
    for row in rows:
        if row.kind == Kind.SESSION:
            session = sessions.get(row.name)
            is_open = session is not None and session.get_decoded().get(HASH_SESSION_KEY) == proof
        else:
            is_open = row.proof == proof and row.name not in ended
        if is_open:
            listed.append(row)
    return listed


def end(row: SignIn) -> None:
    """End a sign-in. Repeating it does nothing."""
    with transaction.atomic():
        if row.kind == Kind.SESSION:
            Session.objects.filter(session_key=row.name).delete()
        else:
            tokens.end_family(row.name)
        SignIn.objects.filter(pk=row.pk).delete()


def is_current(row: SignIn, request: Any) -> bool:
    """Whether this request comes from that sign-in."""
    if request.auth is None:
        return row.kind == Kind.SESSION and bool(row.name == request.session.session_key)
    return row.kind == Kind.TOKENS and bool(row.name == request.auth.get(tokens.FAMILY))


def _note(request: Any, user: Any, kind: str, name: str, seconds: float) -> None:
    now = timezone.now()
    bygone = SignIn.objects.filter(expires_at__lt=now).order_by("pk").select_for_update(skip_locked=True)
    with transaction.atomic():
        SignIn.objects.filter(pk__in=list(bygone.values_list("pk", flat=True)[:SWEEP])).delete()
        SignIn.objects.update_or_create(
            kind=kind,
            name=name,
            defaults={
                "user": user,
                "agent": _printable(request.META.get("HTTP_USER_AGENT", ""))[:200],
                "client": client_of(request),
                "proof": user.get_session_auth_hash(),
                "expires_at": now + timedelta(seconds=seconds),
            },
        )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
