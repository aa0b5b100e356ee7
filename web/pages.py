"""
The front end's pages: one document for all, routed in the browser.

Vite builds it into ``frontend/dist``, which is kept in the repository. Its scripts and styles have hashed names, are
served by WhiteNoise, and are cached forever; the document is requested each time.
"""

from typing import Final

from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

#: Where first-time users of the API go next.
FIRST_STEPS: Final = {
    "documentation": "/api/docs/",
    "schema": "/api/schema/",
    "users": "/api/users/",
    "token": "/api/token/",
    "products": "/api/products/",
    "collections": "/api/collections/",
    "carts": "/api/carts/",
    "orders": "/api/orders/",
    "notifications": "/api/notifications/",
    "messages": "/api/messages/",
}

#: The catalogue's first request, as in frontend/src/pages/Catalogue.tsx: its answer is loaded along with the scripts.
FIRST_LOOK: Final = ", ".join(
    f"<{address}>; rel=preload; as=fetch; crossorigin=anonymous"
    for address in (
        "/api/products/?page=1&page_size=24&ordering=id",
        "/api/collections/?page_size=100",
    )
)


@never_cache
@require_safe
def page(request: HttpRequest, **kwargs: int) -> HttpResponse:
    """Return the document, whatever the page."""
    answer = HttpResponse((settings.FRONTEND_DIR / "index.html").read_bytes())
    if request.get_full_path() == "/":
        answer["Link"] = FIRST_LOOK
    return answer


@require_safe
def without_last_slash(request: HttpRequest, **kwargs: int) -> HttpResponse:
    """Redirect ``/cart/`` to ``/cart``: the front end's pages end without a slash."""
    query = request.META.get("QUERY_STRING", "")
    return HttpResponseRedirect(request.path.rstrip("/") + (f"?{query}" if query else ""))


class ApiIndexView(APIView):
    """The index of ``/api/``."""

    permission_classes = [AllowAny]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """Return the addresses of the API and its documentation."""
        return Response({name: request.build_absolute_uri(address) for name, address in FIRST_STEPS.items()})


@method_decorator(csp_update({"style-src": ["'self'", "'unsafe-inline'"]}), name="dispatch")  # Its styles are inline.
class DocsView(SpectacularSwaggerSplitView):
    """The page of the OpenAPI document. It refuses OPTIONS, for which REST framework would find no template."""

    http_method_names = ["get", "head"]
