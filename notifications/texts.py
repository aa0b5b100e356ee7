"""A notification as an SMS, to a number that was verified."""

from typing import Final

from notifications.deliveries import Status, open_delivery, settle
from phones import budget, sms
from phones.numbers import e164
from phones.verification import is_verified
from store.customers import customer_of

#: Two messages in the GSM alphabet; gateways truncate or charge for more.
MAX_LENGTH: Final = 300  # characters


def deliver(delivery_id: int) -> None:
    """
    Send a notification by SMS, unless it was sent.

    Raises:
        sms.SmsRefusedError: the gateway refuses it permanently, and the delivery records that.
        sms.SmsDeferredError, OSError: a later attempt may succeed.
    """
    delivery = open_delivery(delivery_id)
    if delivery is None:
        return
    customer = customer_of(delivery.notification.user)
    if not customer.phone or not is_verified(customer):
        settle(delivery, Status.SKIPPED, "There is no verified number.")
        return
    number, reference = e164(customer.phone), f"notification:{delivery.notification_id}"
    try:
        budget.spend(number, reference=reference)
    except budget.NoBudget:
        settle(delivery, Status.SKIPPED, "The daily SMS limit has been reached.")
        return
    text = f"Shopwire: {delivery.notification.message}"[:MAX_LENGTH]
    try:
        sms.send(number, text, reference=reference)
    except sms.SmsRefusedError as error:
        settle(delivery, Status.FAILED, str(error))
        raise
    except (sms.SmsDeferredError, OSError) as error:
        settle(delivery, Status.PENDING, str(error))
        raise
    settle(delivery, Status.SENT)
