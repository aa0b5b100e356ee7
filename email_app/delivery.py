"""
The life of a mail: pending, then sent, or failed for good. Called by the modules that know what mails say.

Promises one row and one ``Message-ID`` a mail, however often it is attempted. ``sent`` is final: no
later attempt sends again or takes it back. What remains is the moment between the server's answer and
its record: if the answer is lost, the process dies, or a worker outlives its lease in that moment, the
mail is sent a second time, with the same ``Message-ID``. No lock is held while the server is spoken to.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.mime.base import MIMEBase
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Q
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.utils import timezone

from email_app import outgoing
from email_app.models import EmailDelivery
from worker.context import current_request_id
from worker.errors import PermanentError
from worker.faults import crash_point
from worker.uuid7 import uuid7

Status = EmailDelivery.Status
#: Seconds for which a sent mail's record waits for a database that is away.
RECORD_PATIENCE = 20.0
#: Rows that are deleted in one transaction.
BATCH = 500


def deliver(
    kind: EmailDelivery.Kind,
    *,
    recipient: str,
    context: dict[str, Any],
    order_id: int | None = None,
    user_id: int | None = None,
    reference: str = "",
    attachments: Sequence[MIMEBase] = (),
    headers: Mapping[str, str] | None = None,
) -> None:
    """
    Send the mail of this kind about this order, to this user, with this reference, unless it was sent.

    An attachment with a ``Content-ID`` is shown where the HTML names it.

    Raises:
        PermanentError: the address is none, or the server refuses the mail for good. The row is
            ``failed`` and says why; a replay takes the address anew.
        OSError: the server cannot be reached, or breaks off (smtplib's errors are OSErrors).
        outgoing.MailDeferredError: the server asks to come again later.
    """
    about: dict[str, Any] = {"kind": kind, "order_id": order_id, "user_id": user_id, "reference": reference}
    mail, _ = EmailDelivery.objects.get_or_create(
        **about, defaults={"recipient": recipient, "message_id": _new_message_id()}
    )
    if mail.status == Status.SENT:
        return
    if mail.status == Status.FAILED:  # A person had it replayed, after mending the cause.
        _change(mail, status=Status.PENDING, recipient=recipient, error="")
        mail.recipient = recipient
    try:
        _check_address(mail.recipient)
        outgoing.send(_compose(mail, context, attachments, headers or {}))
    except PermanentError as error:
        if _change(mail, status=Status.FAILED, error=str(error)[:500]):
            raise
        return  # Another worker had it sent meanwhile.
    crash_point("mail.before_record")
    _record_sent(mail)


def prune(*, older_than: timedelta) -> int:
    """Delete the records of older mails but those to customers about their orders, and return how many."""
    pruned = 0
    old = EmailDelivery.objects.filter(created_at__lt=timezone.now() - older_than)
    prunable = old.filter(Q(order=None) | Q(user__isnull=False)).exclude(status=Status.PENDING).order_by("pk")
    while ids := list(prunable.values_list("pk", flat=True)[:BATCH]):
        pruned += EmailDelivery.objects.filter(pk__in=ids).delete()[0]
    return pruned


def _change(mail: EmailDelivery, **changes: Any) -> bool:
    """Change a mail that is not sent, in one statement; False if it was sent meanwhile."""
    return EmailDelivery.objects.filter(pk=mail.pk).exclude(status=Status.SENT).update(**changes) == 1


def _record_sent(mail: EmailDelivery) -> None:
    """
    Record that the mail is out. A database that is away is waited for: to fail would be to send again.

    Raises:
        OperationalError, InterfaceError: it did not come back in time.
    """
    deadline = time.monotonic() + RECORD_PATIENCE
    while True:
        try:
            _change(mail, status=Status.SENT, error="", sent_at=Now())
            return
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            connection.close()
            time.sleep(0.1)


def _compose(
    mail: EmailDelivery, context: dict[str, Any], attachments: Sequence[MIMEBase], more_headers: Mapping[str, str]
) -> EmailMultiAlternatives:
    """Render the mail: the text and the HTML each from a template of its own."""
    context = {"site_url": settings.SITE_URL, **context}
    subject, text, html = (
        render_to_string(f"email_app/{mail.kind}.{part}", context) for part in ("subject", "txt", "html")
    )
    headers = {"Message-ID": mail.message_id, "Auto-Submitted": "auto-generated", **more_headers}
    if request_id := current_request_id():
        headers["X-Request-ID"] = request_id
    message = EmailMultiAlternatives(" ".join(subject.split()), text, to=[mail.recipient], headers=headers)
    message.attach_alternative(html, "text/html")
    for attachment in attachments:
        message.attach(attachment)
    return message


def _check_address(address: str) -> None:
    try:
        validate_email(address)
    except ValidationError:
        problem = "not a mail address" if address else "empty"
        raise PermanentError(f"The recipient's address is {problem}.") from None


def _new_message_id() -> str:
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
    return f"<{uuid7()}.shopwire@{domain}>"
