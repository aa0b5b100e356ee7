"""Servers that this process talks to."""

import pytest

from email_app import outgoing
from tests.mail_server import MailServer


@pytest.fixture
def mail_server(settings):
    """The mail server that this process sends to."""
    server = MailServer()
    server.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_TIMEOUT = 5
    outgoing.hang_up()
    yield server
    outgoing.hang_up()
    server.stop()
