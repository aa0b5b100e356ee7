"""Durable tasks that send codes: outside transactions, at least once, repeatable; see verification.py."""

from celery import shared_task

from phones import verification


@shared_task(name="phones.tasks.send_code", transactional=False, retries="patient")
def send_code(verification_id: int) -> None:
    """
    Send a code by SMS. A second run sends the same code, or finds it sent.

    Permanent errors: the customer is gone, or the gateway refuses the message.
    """
    verification.send(verification_id)
