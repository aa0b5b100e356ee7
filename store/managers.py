"""The shop's managers: the users in the group ``managers``."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import QuerySet

#: The name of the managers' group.
MANAGERS = "managers"


def managers() -> QuerySet[Any]:
    """Return the users to notify of anything that needs a person."""
    return get_user_model()._default_manager.filter(groups__name=MANAGERS, is_active=True).order_by("pk")
