"""Users and signing in: tokens, passwords, mail addresses, lockout, and personal data."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_login_failed


class AccountsConfig(AppConfig):
    name = "accounts"
    label = "core"  # The label in its tables, permissions and migrations, and in AUTH_USER_MODEL.
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Connect the receivers."""
        from accounts import receivers

        user_logged_in.connect(receivers.note_session, dispatch_uid="accounts.note_session")
        user_login_failed.connect(receivers.record_failed_login, dispatch_uid="accounts.record_failed_login")
