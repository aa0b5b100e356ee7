"""``manage.py doctor``: the problems of this installation, and what to do."""

import dataclasses
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from celery_ledger.desk import doctor


class Command(BaseCommand):
    help = (
        "Diagnose a live installation: versions, settings, connections, policies, clocks, orphans. Exit 1 on a problem."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(doctor.examine())
        problems = [finding for finding in found if not finding.is_well]
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
        else:
            for finding in found:
                self.stdout.write(f"{'ok ' if finding.is_well else 'BAD'}  {finding.what}: {finding.how}")
                if finding.advice:
                    self.stdout.write(f"     -> {finding.advice}")
        if problems:
            raise CommandError(
                "1 problem needs attention." if len(problems) == 1 else f"{len(problems)} problems need attention."
            )
