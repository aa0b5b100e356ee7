"""
The unsubscribe link in every notification mail: signed, one click, without login (RFC 8058).

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
    """Return the URL that unsubscribes a user from mails of a kind. It is valid for as long as ``SECRET_KEY`` is."""
    return f"{settings.SITE_URL}/unsubscribe/{signing.dumps([user_id, kind], salt=SALT)}/"


@never_cache
@csrf_exempt  # The sender is a mail program without a session; the signature authorises it.
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for confirmation or, on POST, unsubscribe the user from mails of a kind. Repeating it changes nothing."""
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
