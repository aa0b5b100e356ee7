"""Receivers for successful and failed sign-ins. Connected in apps.py."""

from typing import Any

from django.contrib.auth import get_user_model

from accounts import failures, sign_ins


def note_session(sender: object, user: Any, request: Any, **kwargs: Any) -> None:
    """A user signed in, perhaps with a browser: list the session among the user's own."""
    sign_ins.note_session(request, user)


def record_failed_login(sender: object, credentials: dict[str, Any], **kwargs: Any) -> None:
    """
    A sign-in failed: count it for the account, if the account exists, and for the address.

    What was typed is never recorded: people type passwords into the wrong field.
    """
    model = get_user_model()
    name = credentials.get(model.USERNAME_FIELD)
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first() if isinstance(name, str) else None
    failures.record(user)
