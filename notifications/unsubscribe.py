"""
The way out that stands in every mail of a notification: signed, without login, one click (RFC 8058).

Only a POST changes anything, because mail programs and scanners fetch every address with a GET.
"""

from typing import Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from notifications.models import Channel, Kind
from notifications.preferences import save_preferences

SALT: Final = "notifications.unsubscribe"


def address_for(user_id: int, kind: str) -> str:
    """Return the address at which a user gets no more mails of a kind. It is good for as long as ``SECRET_KEY`` is."""
    return f"{settings.SITE_URL}/unsubscribe/{signing.dumps([user_id, kind], salt=SALT)}/"


@never_cache
@csrf_exempt  # The sender is a mail program without a session; the signature authorises it.
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, token: str) -> HttpResponse:
    """Ask whether there shall be no more mails of a kind, or with a POST see to it. A second time changes nothing."""
    try:
        user_id, kind = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        raise Http404 from None
    if kind not in Kind.values or not get_user_model()._default_manager.filter(pk=user_id).exists():
        raise Http404
    is_done = request.method == "POST"
    if is_done:
        save_preferences(user_id, {kind: {Channel.EMAIL: False}})
    return render(request, "notifications/unsubscribe.html", {"is_done": is_done, "kind": Kind(kind).label.lower()})
