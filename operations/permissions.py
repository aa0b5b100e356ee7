"""Permissions of the operations API."""

from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.request import Request
from rest_framework.views import APIView


class MayOperate(IsAdminUser):
    """
    Staff may read; to change something they need the permission that the view names in ``needs``.

    Methods that a view does not have pass, and are answered with 405.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        needed = getattr(view, "needs", None)
        if request.method in SAFE_METHODS or (needed is None and not hasattr(view, str(request.method).lower())):
            return True
        return needed is not None and request.user.has_perm(needed)
