"""``manage.py health``: whether this machine's worker or relay does its work, for the probes of containers."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from worker import heartbeats, watchdog
from worker.models import Heartbeat


class Command(BaseCommand):
    help = (
        "Exit 1 if this machine's worker or relay is stalled and should be started again. A database that is away "
        "is no reason to: nobody could say, and a new process would meet the same."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=Heartbeat.Kind.values)

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Heartbeat.Kind(options["kind"])
        try:
            own = {row.process for row in heartbeats.of_this_machine(kind)}
            found = watchdog.of_relays() if kind == Heartbeat.Kind.RELAY else watchdog.of_workers()
        except DatabaseError as error:
            self.stdout.write(f"The database is away, so nobody can say: {error}")
            return
        if not own:
            raise CommandError(f"No {kind} of this machine has been heard of.")
        wrong = [problem.text for problem in found if any(process in problem.text for process in own)]
        if wrong:
            raise CommandError("; ".join(wrong))
        self.stdout.write(f"ok: {', '.join(sorted(own))}")
