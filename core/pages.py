"""
The pages of the front end: one document for all of them, which the browser's own router takes apart.

It is built by Vite into ``frontend/dist`` and kept there in the repository. Its scripts and styles have hashed
names and are served by WhiteNoise for ever; the document is asked for each time.
"""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@never_cache
@require_safe
def page(request: HttpRequest, **kwargs: int) -> HttpResponse:
    """Answer the document, whatever the page."""
    return HttpResponse((settings.FRONTEND_DIR / "index.html").read_bytes())
