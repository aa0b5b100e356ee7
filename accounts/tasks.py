"""The accounts' work as a durable task. Called by a schedule, which has its name from before there was this app."""

from celery import shared_task
from django.core.management import call_command

from accounts import lockout


@shared_task(name="core.tasks.clear_sessions", queue="scheduled", transactional=False)
def clear_sessions() -> None:
    """Delete the sessions that have expired, and failed logins that no longer count. Repeatable."""
    call_command("clearsessions")
    lockout.forget_old_failures()
