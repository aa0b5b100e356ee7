"""``manage.py ledger_adopt``: what changes for a project that adds the package."""

import dataclasses
import json
from argparse import ArgumentParser
from itertools import groupby
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from celery_ledger.desk import adoption
from celery_ledger.project import AppNotFoundError

TITLES = {
    "settings": "Settings",
    "apps": "Other Celery apps",
    "base classes": "Tasks that would not become durable",
    "options": "Options of tasks",
    "calls": "Calls that would be refused",
    "queues": "Queues",
    "outside": "Tasks that seem to have external effects",
    "inside": "Tasks that seem to work only in the database",
}


class Command(BaseCommand):
    help = "Read this project and report what changes when its tasks become durable. Nothing is called or changed."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = list(adoption.remarks())
        except AppNotFoundError as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps([dataclasses.asdict(remark) for remark in found], indent=2))
            return
        for topic, of_topic in groupby(found, key=lambda remark: remark.topic):
            remarks = list(of_topic)
            self.stdout.write(f"{TITLES[topic]} ({len(remarks)})")
            advice = ""
            for remark in remarks:
                if advice not in {"", remark.advice}:
                    self.stdout.write(f"    -> {advice}")
                advice = remark.advice
                self.stdout.write(f"  {remark.about}: {remark.words}")
            if advice:
                self.stdout.write(f"    -> {advice}")
            self.stdout.write("")
        self.stdout.write("See docs/guide/adding-it-to-your-project.md for what to do.")
