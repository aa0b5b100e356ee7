"""
One-time codes: sending and checking them.

Promises that a code works once, for ``PHONE_CODE_MINUTES`` and ``TRIES`` attempts, each counted before it is
checked; and that, even under concurrent requests, neither a customer nor a number is sent more codes than
:data:`CODES_AN_HOUR`, or more than :mod:`phones.budget` grants.
"""

import secrets
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from celery_ledger.context import current_client
from celery_ledger.errors import PermanentError
from celery_ledger.patience import persist
from phones import budget, sms
from phones.models import PhoneVerification
from phones.numbers import e164
from store.models import Customer

TRIES: Final = 5
CODES_AN_HOUR: Final = 5
#: The minimum number of seconds between two codes.
PAUSE: Final = 30


class NoPhone(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """The customer has no number, or its number is verified."""


class NotServed(NoPhone):
    """The customer's number may not receive SMS."""


class TooManyCodes(Exception):  # noqa: N818 - As above.
    """Too many codes were requested; ``wait`` is the number of seconds until the next."""

    def __init__(self, wait: float) -> None:
        super().__init__("Too many codes.")
        self.wait = wait


class NoCode(Exception):  # noqa: N818 - As above.
    """No code is valid: none was sent, or it was used or has expired."""


class WrongCode(Exception):  # noqa: N818 - As above.
    """The code is wrong; ``left`` is the number of tries left."""

    def __init__(self, left: int) -> None:
        super().__init__("Wrong code.")
        self.left = left


def is_verified(customer: Customer) -> bool:
    """Whether the customer's current number is verified."""
    phone = e164(customer.phone)
    return bool(phone) and customer.phone_verifications.filter(phone=phone, verified_at__isnull=False).exists()


def make_code(customer: Customer) -> PhoneVerification:
    """
    Create a code for the customer's number, to be sent.

    Raises:
        NoPhone: the customer has no number, or it is verified.
        NotServed: the number may not receive SMS.
        TooManyCodes: the limit of the customer, the number, the requesting address or the shop is reached.
    """
    phone = e164(customer.phone)
    if customer.phone and not phone:
        raise NotServed
    with transaction.atomic():
        Customer.objects.select_for_update(no_key=True).get(pk=customer.pk)
        if not phone or is_verified(customer):
            raise NoPhone
        budget.hold()  # Before counting: twelve customers who share a number would each count none.
        now = timezone.now()
        recent = PhoneVerification.objects.filter(
            Q(customer=customer) | Q(phone=phone), created_at__gt=now - timedelta(hours=1)
        )
        times = list(recent.order_by("-created_at").values_list("created_at", flat=True)[:CODES_AN_HOUR])
        if len(times) == CODES_AN_HOUR:
            raise TooManyCodes((times[-1] + timedelta(hours=1) - now).total_seconds())
        if times and now - times[0] < timedelta(seconds=PAUSE):
            raise TooManyCodes((times[0] + timedelta(seconds=PAUSE) - now).total_seconds())
        row = PhoneVerification.objects.create(customer=customer, phone=phone)
        try:
            budget.spend(phone, reference=f"code:{row.pk}", client=current_client())
        except budget.NoBudget as error:
            raise TooManyCodes(error.wait) from None
        return row


def send(verification_id: int) -> None:
    """
    Send a code by SMS, unless it was sent, has expired, or was followed by another.

    Raises:
        PermanentError: the customer is gone, or the gateway refuses.
        sms.SmsDeferredError, OSError: not now.
    """
    row = PhoneVerification.objects.filter(pk=verification_id).first()
    if row is None:
        raise PermanentError(f"Phone verification {verification_id} no longer exists.")
    if row.sent_at or row.expires_at <= timezone.now() or _latest(row.customer_id) != row:
        return
    minutes = round((row.expires_at - row.created_at).total_seconds() / 60)
    sms.send(
        row.phone, f"{row.code} is your Shopwire code, good for {minutes} minutes.", reference=f"{row.pk}-{row.nonce}"
    )
    persist(lambda: PhoneVerification.objects.filter(pk=row.pk).update(sent_at=timezone.now()))


def check(customer: Customer, code: str) -> None:
    """
    Verify the customer's number if ``code`` is the latest that was sent to it.

    Do not call it inside a transaction that an error would roll back: a failed try must stay counted.

    Raises:
        NoCode: no code is valid.
        WrongCode: the code is wrong.
    """
    row = _latest(customer.pk)
    if row is None or row.phone != e164(customer.phone):
        raise NoCode
    good = PhoneVerification.objects.filter(pk=row.pk, tries__lt=TRIES, expires_at__gt=timezone.now(), verified_at=None)
    if not good.update(tries=F("tries") + 1):
        raise NoCode
    if not secrets.compare_digest(row.code, code):
        row.refresh_from_db(fields=["tries"])
        raise WrongCode(TRIES - row.tries)
    PhoneVerification.objects.filter(pk=row.pk).update(verified_at=timezone.now())


def _latest(customer_id: int) -> PhoneVerification | None:
    return PhoneVerification.objects.filter(customer_id=customer_id).order_by("-pk").first()
