"""``manage.py database_limits``: show the limits that PostgreSQL enforces for our sessions, or set them."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from celery_ledger.management.database import told_in_one_line
from core import database_limits


class Command(BaseCommand):
    help = (
        "Show which limits PostgreSQL enforces for our sessions; exit 1 if any is missing. Behind a pooler in "
        "transaction mode sessions are shared: --set stores the limits with the role, for this database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--set", action="store_true", help="store the limits in the role; they apply to new sessions"
        )
        parser.add_argument("--role", help="the role (default: the one used by this command)")
        parser.add_argument(
            "--web", action="store_true", help="include the limits of web processes, for a role that only they use"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "postgresql":
            raise CommandError("SQLite has no sessions to limit.")
        with told_in_one_line():
            if options["set"]:
                self._set(options["role"] or database_limits.current_role(), web=options["web"])
                return
            for name, value in sorted(database_limits.present().items()):
                self.stdout.write(f"{name} = {value}  (wanted: {settings.DATABASE_LIMITS[name]})")
            lacking = database_limits.lacking()
        if lacking:
            raise CommandError(
                f"These limits are not in effect: {', '.join(lacking)}. Set them: database_limits --set."
            )

    def _set(self, role: str, *, web: bool) -> None:
        limits = settings.DATABASE_LIMITS | (settings.WEB_DATABASE_LIMITS if web else {})
        database_limits.tell(role, limits)
        self.stdout.write(f"{role} has {', '.join(sorted(limits))} in every new session.")
        self.stdout.write("A pooler keeps its open sessions: make it reconnect (PgBouncer: RECONNECT).")
