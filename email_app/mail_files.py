"""
The mail backend for development: files under ``EMAIL_FILE_PATH``, which any mail program can open.

Django's own writes all mails of one connection into one file, and names it by second and memory
address, which two workers can share.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone
from django.utils.text import slugify


class EmailBackend(BaseEmailBackend):
    """Writes each mail atomically to an ``.eml`` file, named after its time and subject."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """
        Write each mail to a separate file, and return how many there were.

        Raises:
            OSError: the folder cannot be made or written.
        """
        folder = Path(settings.EMAIL_FILE_PATH)  # type: ignore[misc]  # EMAIL_URL sets it.
        folder.mkdir(parents=True, exist_ok=True)
        for message in email_messages:
            name = f"{timezone.now():%Y%m%d-%H%M%S-%f}-{slugify(message.subject)[:60]}-{uuid4().hex[:8]}"
            unfinished = folder / f".{name}.tmp"
            unfinished.write_bytes(message.message().as_bytes())
            os.replace(unfinished, folder / f"{name}.eml")
        return len(email_messages)
