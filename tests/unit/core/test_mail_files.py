"""The mail backend of development: one whole file a mail."""

from email import message_from_bytes, policy

import pytest
from django.core.mail import EmailMessage, get_connection

from core import settings as project_settings


@pytest.fixture
def folder(settings, tmp_path):
    settings.EMAIL_BACKEND = "email_app.mail_files.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
    return tmp_path / "mail"


def test_every_mail_is_a_file_of_its_own_that_a_mail_program_reads(folder):
    connection = get_connection()
    mails = [EmailMessage("Your order: 7/8", f"body {n} é", to=["a@example.com"]) for n in range(3)]
    assert connection.send_messages(mails[:2]) == 2
    assert connection.send_messages(mails[2:]) == 1
    files = sorted(folder.iterdir())
    assert len(files) == 3
    assert all(file.suffix == ".eml" and "your-order-78" in file.name for file in files)
    read = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    assert [message.get_content().strip() for message in read] == [f"body {n} é" for n in range(3)]


def test_a_folder_that_cannot_be_written_is_an_error(folder):
    folder.write_text("a file is in the way")
    with pytest.raises(OSError, match="mail"):
        get_connection().send_messages([EmailMessage("x", "x", to=["a@example.com"])])


def test_mail_files_are_what_filemail_means():
    meant = project_settings.env.email_url_config("filemail:////var/mail")
    assert meant["EMAIL_BACKEND"] == "email_app.mail_files.EmailBackend"
    assert meant["EMAIL_FILE_PATH"] == "/var/mail"
