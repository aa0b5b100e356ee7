"""
The states of a mail: pending, then sent, held, or failed permanently. Called by the modules that write mails.

Promises one row and one ``Message-ID`` per mail, however often it is attempted. ``sent`` is final: no later attempt
sends it again or resets it. What remains is the moment between the server's answer and its record: if the answer is
lost, the process dies, or a worker outlives its lease in that moment, the mail is sent a second time, with the same
``Message-ID``. No lock is held during the SMTP dialogue.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from email.mime.base import MIMEBase
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.utils import timezone

from celery_ledger.context import current_request_id
from celery_ledger.errors import PermanentError
from celery_ledger.faults import crash_point
from celery_ledger.patience import persist
from celery_ledger.uuid7 import uuid7
from email_app import addresses, outgoing
from email_app.models import AddressClaim, EmailDelivery

Status = EmailDelivery.Status
#: How many rows one transaction deletes.
BATCH = 500
#: Mails of any kind that an unverified address is sent per day; see docs/adr/0014.
UNVERIFIED_A_DAY = 20


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
    to_anybody: bool = False,
) -> None:
    """
    Send the mail of this kind about this order, to this user, with this reference, unless it was sent already.

    An attachment with a ``Content-ID`` is shown where the HTML names it.

    In place of a mail about an order, an unverified address is sent a verification request, and the row is marked
    as a stand-in; every other mail is ``held``. Both wait for :func:`release`. ``to_anybody`` is for the
    verification mails themselves: their wording is fixed, and no third party can influence it.

    Raises:
        PermanentError: the address is invalid, or the server rejects the mail permanently. The row is
            ``failed`` and holds the reason; a replay reads the address again.
        OSError: the server cannot be reached, or drops the connection (smtplib's errors are OSErrors).
        outgoing.MailDeferredError: the server asks for a later attempt.
    """
    about: dict[str, Any] = {"kind": kind, "order_id": order_id, "user_id": user_id, "reference": reference}
    mail = EmailDelivery.objects.filter(**about).first() or _begin(about, recipient)
    if mail.status == Status.SENT:
        return
    if mail.status == Status.FAILED or mail.recipient != recipient:
        # A person replayed it after fixing the cause, or the address has changed since.
        _change(mail, status=Status.PENDING, recipient=recipient, error="")
        mail.recipient = recipient
    claim = None if to_anybody else AddressClaim.objects.filter(email=recipient, user__email=recipient).first()
    if (claim and order_id is None) or ((claim or to_anybody) and _has_had_enough(mail)):
        _change(mail, status=Status.HELD, error="")
        return
    try:
        _check_address(mail.recipient)
        if claim:
            request = {"verify_url": addresses.link(claim, "new"), "days": addresses.LINK_DAYS, "order_id": order_id}
            outgoing.send(_compose(mail, request, (), {}, template=EmailDelivery.Kind.ADDRESS_CHECK))
        else:
            outgoing.send(_compose(mail, context, attachments, headers or {}))
    except PermanentError as error:
        if _change(mail, status=Status.FAILED, error=str(error)[:500]):
            raise
        return  # Another worker has sent it meanwhile.
    crash_point("mail.before_record")
    persist(lambda: _change(mail, status=Status.SENT, error="", sent_at=Now(), stand_in=claim is not None))


def release(user_id: int, *, younger_than: timedelta) -> list[EmailDelivery]:
    """
    Set the held mails about a user's orders back to pending, and return them to be enqueued.

    Called when the address is verified, in one transaction. Mails older than ``younger_than`` stay as they are.
    """
    with transaction.atomic():
        waiting = EmailDelivery.objects.select_for_update().filter(
            Q(status=Status.HELD) | Q(stand_in=True),
            order__customer__user=user_id,
            user=None,
            created_at__gt=timezone.now() - younger_than,
        )
        mails = list(waiting.order_by("pk"))
        for mail in mails:
            mail.status, mail.stand_in, mail.sent_at = Status.PENDING, False, None
            mail.message_id = _new_message_id()  # It is not the mail that stood in for it.
            mail.save(update_fields=["status", "stand_in", "sent_at", "message_id"])
        return mails


def prune(*, older_than: timedelta) -> Iterator[int]:
    """Delete records of old mails except customers' order mails; yield the number deleted in each step."""
    old = EmailDelivery.objects.filter(created_at__lt=timezone.now() - older_than)
    prunable = old.filter(Q(order=None) | Q(user__isnull=False)).exclude(status=Status.PENDING).order_by("pk")
    while ids := list(prunable.values_list("pk", flat=True)[:BATCH]):
        EmailDelivery.objects.filter(pk__in=ids).delete()
        yield len(ids)


def _begin(about: Mapping[str, Any], recipient: str) -> EmailDelivery:
    """Write the row of a mail; if another worker has just done so, return that one."""
    try:
        return EmailDelivery.objects.create(**about, recipient=recipient, message_id=_new_message_id())
    except IntegrityError:
        return EmailDelivery.objects.get(**about)


def _change(mail: EmailDelivery, **changes: Any) -> bool:
    """Update a mail that is not sent, in one statement; False if it has been sent meanwhile."""
    return EmailDelivery.objects.filter(pk=mail.pk).exclude(status=Status.SENT).update(**changes) == 1


def _has_had_enough(mail: EmailDelivery) -> bool:
    """Whether this unverified address has received :data:`UNVERIFIED_A_DAY` mails within 24 hours."""
    day = EmailDelivery.objects.filter(recipient=mail.recipient, created_at__gt=timezone.now() - timedelta(days=1))
    return day.filter(pk__lt=mail.pk).exclude(status=Status.HELD).count() >= UNVERIFIED_A_DAY


def _compose(
    mail: EmailDelivery,
    context: dict[str, Any],
    attachments: Sequence[MIMEBase],
    more_headers: Mapping[str, str],
    template: str = "",
) -> EmailMultiAlternatives:
    """Render the mail; text and HTML have a template each, named after its kind unless specified."""
    context = {"site_url": settings.SITE_URL, **context}
    subject, text, html = (
        render_to_string(f"email_app/{template or mail.kind}.{part}", context) for part in ("subject", "txt", "html")
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
