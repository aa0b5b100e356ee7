"""Handling of URLs without a trailing slash."""

from django.http import HttpRequest
from django.middleware.common import CommonMiddleware


class AddressMiddleware(CommonMiddleware):
    """
    Django's middleware, except that only safe methods are redirected.

    A redirected POST would come back as a GET; Django raises an error about it in development. Here it is a plain 404,
    which reveals nothing and loses nothing.
    """

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        return request.method in {"GET", "HEAD"} and super().should_redirect_with_slash(request)
