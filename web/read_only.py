"""Admin pages of what is a fact: it is looked at."""

from typing import Any

from django.http import HttpRequest


class ReadOnly:
    """For an admin or an inline of any app: nothing can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
