"""Base classes for refusals as API errors; each app has its own."""

from typing import Any

from rest_framework import status
from rest_framework.exceptions import APIException


class Refusal(APIException):
    """
    The request is well-formed, but the state of the shop does not allow it.

    The type of the problem document ends with ``problem``: clients may act on it. ``errors`` names the parts of the
    request that are at fault.
    """

    status_code: int = status.HTTP_409_CONFLICT
    problem: str
    errors: list[dict[str, Any]]

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.errors = []
