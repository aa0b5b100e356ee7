"""``manage.py health``: whether this machine's worker or relay is healthy, for container probes."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from celery_ledger import databases
from celery_ledger.models import Heartbeat
from celery_ledger.watch import heartbeats, watchdog

LOOKS = {
    Heartbeat.Kind.RELAY: watchdog.of_relays,
    Heartbeat.Kind.WORKER: watchdog.of_workers,
    Heartbeat.Kind.BEAT: watchdog.of_beats,
}


class Command(BaseCommand):
    help = (
        "Exit 1 if this machine's worker, relay or beat is stalled and should be restarted. An unavailable database or "
        "broker does not count: a new process would not help."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", choices=Heartbeat.Kind.values)

    def handle(self, *args: Any, **options: Any) -> None:
        kind = Heartbeat.Kind(options["kind"])
        own: set[str] = set()
        found: list[watchdog.Problem] = []
        away = 0
        for alias in databases.aliases():
            try:
                with databases.using(alias):
                    own |= {row.process for row in heartbeats.of_this_machine(kind)}
                    found += LOOKS[kind]()
            except DatabaseError as error:
                self.stdout.write(f"The database is unavailable: {error}")
                away += 1
        if away == len(databases.aliases()):
            return
        if not own:
            raise CommandError(f"No {kind} on this machine has sent a heartbeat.")
        wrong = [problem.text for problem in found if problem.stalled in own]
        if wrong:
            raise CommandError("; ".join(wrong))
        self.stdout.write(f"ok: {', '.join(sorted(own))}")
