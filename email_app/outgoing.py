"""
The connection to the mail server, kept open between mails; called by delivery.py.

One for each thread of each process, so that it is never shared. Promises that a mail was accepted by the server unless
an error was raised; that every call ends (``EMAIL_TIMEOUT`` bounds each step of the dialogue); and that no error
contains an address or the server's text, which may quote one.
"""

import smtplib
import threading
import time
from contextlib import suppress

from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from celery_ledger.errors import PermanentError

#: A connection idle for longer, in seconds, is checked before use.
PROBE_AFTER = 1.0
#: A connection idle for longer, in seconds, is not used again.
MAX_REST = 60.0
#: SMTP status codes from here on mean that the mail will never be accepted (RFC 5321, 4.2.1).
FIRST_PERMANENT_CODE = 500


class MailDeferredError(Exception):
    """The mail server did not accept the mail, but may accept it later."""


class MailRefusedError(PermanentError):
    """The mail server will never accept this mail."""


class _Kept(threading.local):
    backend: BaseEmailBackend | None = None
    used_at: float = 0.0


_kept = _Kept()


def send(message: EmailMessage) -> None:
    """
    Send one mail over the open connection or a new one.

    Raises:
        MailRefusedError: it will never be accepted: a 5xx answer to this mail, or a header that cannot be written.
        MailDeferredError: a 4xx answer, or a server that refuses us rather than the mail.
        OSError: no connection, a timeout, or the server broke off.
    """
    try:
        _connected().send_messages([message])
    except BaseException as error:
        # Whatever it was, a timeout or a task's time limit: the state of the dialogue is unknown.
        hang_up()
        if isinstance(error, smtplib.SMTPException):
            raise _without_names(error) from None
        if isinstance(error, ValueError):  # BadHeaderError, and addresses that cannot be encoded.
            raise MailRefusedError(f"The mail cannot be written: {type(error).__name__}.") from None
        raise
    _kept.used_at = time.monotonic()


def hang_up() -> None:
    """Close this thread's connection, if there is one."""
    backend, _kept.backend = _kept.backend, None
    if backend is not None:
        with suppress(OSError):
            backend.close()


def _connected() -> BaseEmailBackend:
    if _kept.backend is not None:
        rest = time.monotonic() - _kept.used_at
        if rest > MAX_REST or (rest > PROBE_AFTER and not _answers(_kept.backend)):
            hang_up()
    if _kept.backend is None:
        _kept.backend = get_connection()
        _kept.backend.open()
    return _kept.backend


def _answers(backend: BaseEmailBackend) -> bool:
    """Whether the server is still connected; always true for backends without a server."""
    connection = getattr(backend, "connection", None)
    if not isinstance(connection, smtplib.SMTP):
        return True
    try:
        return connection.noop()[0] == 250
    except OSError:
        return False


def _without_names(error: smtplib.SMTPException) -> Exception:
    """Return the error to raise for a server's response, with its codes but without its text."""
    words: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        what, (code, words) = "the recipient", next(iter(error.recipients.values()))
    elif isinstance(error, smtplib.SMTPSenderRefused):
        what, code, words = "the sender", error.smtp_code, error.smtp_error
    elif isinstance(error, smtplib.SMTPDataError):
        what, code, words = "the mail", error.smtp_code, error.smtp_error
    elif isinstance(error, smtplib.SMTPResponseException):
        # Greeting or login: it says nothing about this mail, and all others would die with it.
        return MailDeferredError(f"The mail server refused the connection: {error.smtp_code}.")
    else:
        return error
    line = f"The mail server refused {what}: {code}{_enhanced_code(words)}."
    return MailRefusedError(line) if code >= FIRST_PERMANENT_CODE else MailDeferredError(line)


def _enhanced_code(words: bytes | str) -> str:
    """Return the enhanced status code, such as `` 5.1.1`` (RFC 3463), or an empty string."""
    first = (words.decode("ascii", "replace") if isinstance(words, bytes) else words).partition(" ")[0]
    numbers = first.split(".")
    return f" {first}" if len(numbers) == 3 and all(part.isdecimal() for part in numbers) else ""
