"""What the accounts do when somebody signs in, or cannot. Connected in apps.py."""

from typing import Any

from django.contrib.auth import get_user_model

from accounts import failures, sign_ins


def note_session(sender: object, user: Any, request: Any, **kwargs: Any) -> None:
    """Somebody signed in, perhaps with a browser: have that session listed among theirs."""
    sign_ins.note_session(request, user)


def record_failed_login(sender: object, credentials: dict[str, Any], **kwargs: Any) -> None:
    """
    Somebody could not sign in: count it for the account, if there is such an account, and for the address.

    Never with what was typed: people type passwords into the wrong field.
    """
    model = get_user_model()
    name = credentials.get(model.USERNAME_FIELD)
    user = model._default_manager.filter(**{model.USERNAME_FIELD: name}).first() if isinstance(name, str) else None
    failures.record(user)
