"""Durable tasks of the accounts. The schedule keeps a name from before this app existed."""

from celery import shared_task
from django.core.management import call_command

from accounts import lockout


@shared_task(name="core.tasks.clear_sessions", queue="scheduled", transactional=False)
def clear_sessions() -> None:
    """Delete expired sessions, and failed logins that no longer count. Repeatable."""
    call_command("clearsessions")
    lockout.forget_old_failures()
