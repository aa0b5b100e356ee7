"""
The interface to the payment provider: two calls, both repeatable.

``PAYMENT_URL`` names it: ``POST /charges`` and ``POST /refunds``, JSON, with the payment's reference as
``Idempotency-Key``. A provider with another interface needs a small class next to :class:`HttpProvider`.
"""

from enum import StrEnum
from typing import Final, Protocol

from django.conf import settings

from payments.models import Charge

#: Seconds for a connection, and for each step after it.
TIMEOUT: Final = 10.0


class Result(StrEnum):
    """The state of a charge."""

    PAID = "paid"
    #: The provider does not know yet, and will call back.
    PENDING = "pending"
    DECLINED = "declined"


class ProviderAwayError(Exception):
    """The provider did not answer, or violated the protocol. Whether it charged is unknown: ask again."""


class Provider(Protocol):
    """A payment provider."""

    def charge(self, charge: Charge) -> Result:
        """
        Charge the money, once for each reference, or report the outcome.

        Raises:
            ProviderAwayError: the outcome is unknown.
        """

    def refund(self, charge: Charge) -> None:
        """
        Refund the money, once for each reference.

        Raises:
            ProviderAwayError: it is unknown whether that was done.
        """


class HttpProvider:
    """A provider at a URL, with a shared secret."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url.rstrip("/")
        self._secret = secret

    def charge(self, charge: Charge) -> Result:
        """As :class:`Provider` says."""
        told = self._post("charges", charge)
        try:
            return Result(str(told.get("status")))
        except ValueError:
            raise ProviderAwayError("The provider's response has an unknown status.") from None

    def refund(self, charge: Charge) -> None:
        """As :class:`Provider` says."""
        if self._post("refunds", charge).get("status") != "refunded":
            raise ProviderAwayError("The provider did not confirm the refund.")

    def _post(self, what: str, charge: Charge) -> dict[str, object]:
        import httpx  # A process that takes no payments need not load it.

        reference = str(charge.reference)
        body = {"reference": reference, "amount": str(charge.amount), "currency": charge.currency}
        headers = {"Idempotency-Key": reference, "Authorization": f"Bearer {self._secret}"}
        try:
            with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
                answer = client.post(f"{self._url}/{what}", json=body, headers=headers)
                told = answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderAwayError(f"The provider did not answer: {type(error).__name__}.") from None
        if not isinstance(told, dict):
            raise ProviderAwayError(f"The provider answered {answer.status_code}.")
        return told


def provider() -> Provider:
    """Return the configured provider."""
    return HttpProvider(settings.PAYMENT_URL, settings.PAYMENT_SECRET)
