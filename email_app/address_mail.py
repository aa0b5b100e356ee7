"""Address verification mails. Their wording is fixed, because the recipient may be anyone."""

from celery_ledger.errors import PermanentError
from email_app import addresses, delivery
from email_app.models import AddressClaim, EmailDelivery

Kind = EmailDelivery.Kind


def send_check(claim_id: int, reference: str) -> None:
    """
    Send the link to the new address, once per reference, unless the claim has been settled.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    _send(Kind.ADDRESS_CHECK, claim_id, reference)


def send_change(claim_id: int, reference: str) -> None:
    """
    Send the link to the address being replaced, once per reference, unless the claim has been settled.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    _send(Kind.ADDRESS_CHANGE, claim_id, reference)


def _send(kind: EmailDelivery.Kind, claim_id: int, reference: str) -> None:
    claim = AddressClaim.objects.select_related("user").filter(pk=claim_id).first()
    if claim is None:
        return
    is_new = kind == Kind.ADDRESS_CHECK
    if claim.email == claim.user.email and not is_new:
        raise PermanentError(f"The address of user {claim.user_id} has already been changed.")
    delivery.deliver(
        kind,
        recipient=claim.email if is_new else claim.user.email,
        user_id=claim.user_id,
        reference=reference,
        to_anybody=is_new,
        context={"verify_url": addresses.link(claim, "new" if is_new else "old"), "days": addresses.LINK_DAYS},
    )
