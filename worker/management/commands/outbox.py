"""``manage.py outbox``: look at the ledger, and put right what only a person may."""

import dataclasses
import json
import re
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from worker import audit, dead_letters, pruner, queues
from worker.management.database import told_in_one_line

DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = "The ledger of durable tasks: figures, dead letters, pauses, pruning, and the audit of its promises."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        stats = verbs.add_parser("stats", help="figures per queue")
        dead = verbs.add_parser("dead", help="list the dead letters")
        verify = verbs.add_parser("verify", help="audit every promise; exit 1 and name what is broken")
        for verb in (stats, dead, verify):
            verb.add_argument("--json", action="store_true", help="answer in JSON")
        replay = verbs.add_parser("replay", help="make dead letters pending again, under the same id")
        replay.add_argument("ids", nargs="*", metavar="ID")
        replay.add_argument("--all", action="store_true", help="all dead letters")
        replay.add_argument("--task", metavar="NAME", help="all dead letters of one task")
        replay.add_argument("--per-second", type=float, metavar="N", help="so many a second, longest dead first")
        discard = verbs.add_parser("discard", help="give up dead letters for good")
        discard.add_argument("ids", nargs="+", metavar="ID")
        discard.add_argument("--reason", default="discarded by an operator", help="kept with the task")
        for name, text in (("pause", "keep a queue's tasks in the ledger"), ("resume", "let them go again")):
            verbs.add_parser(name, help=text).add_argument("queue")
        limit = verbs.add_parser("limit", help="limit a queue in the whole cluster; without options, no longer")
        limit.add_argument("queue")
        limit.add_argument("--per-second", type=float, metavar="N", help="tasks that may begin a second")
        limit.add_argument("--concurrency", type=int, metavar="N", help="tasks under way at once")
        prune = verbs.add_parser("prune", help="delete tasks that ended well long ago")
        prune.add_argument("--older-than", default="7d", metavar="AGE", help="such as 7d, 12h, 30m (default 7d)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with told_in_one_line():
                getattr(self, options["verb"])(**options)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def stats(self, **options: Any) -> None:
        states = [dataclasses.asdict(state) for state in queues.queue_states()]
        if options["json"]:
            self._print_json(states)
            return
        self.stdout.write(
            f"{'queue':14}{'pending':>9}{'published':>11}{'running':>9}{'dead':>7}{'oldest':>10}{'done/min':>10}"
        )
        for state in states:
            oldest = state["oldest_pending_seconds"]
            self.stdout.write(
                f"{state['queue']:14}{state['pending']:>9}{state['published']:>11}{state['running']:>9}"
                f"{state['dead']:>7}{'-' if oldest is None else f'{oldest:.1f} s':>10}"
                f"{state['completed_per_minute']:>10}{'  paused' if state['paused'] else ''}"
                f"{'  limited' if state['per_second'] or state['concurrency'] else ''}"
            )

    def dead(self, **options: Any) -> None:
        tasks = dead_letters.dead_tasks()
        if options["json"]:
            self._print_json(
                [
                    {
                        "id": str(task.id),
                        "task": task.name,
                        "queue": task.queue,
                        "subject": task.subject,
                        "attempts": task.attempts,
                        "completed_at": task.completed_at,
                        "last_error": task.last_error,
                    }
                    for task in tasks.iterator()
                ]
            )
            return
        for task in tasks.iterator():
            self.stdout.write(f"{task.id}  {task.name}  {task.attempts} attempts  {task.last_error}")
        if not tasks.exists():
            self.stdout.write("There are no dead letters.")

    def replay(self, **options: Any) -> None:
        ids, name = options["ids"], options["task"]
        if [bool(ids), options["all"], name is not None].count(True) != 1:
            raise CommandError("Say which: ids, --all, or --task NAME.")
        if ids:
            count = dead_letters.replay(self._parse_ids(ids), per_second=options["per_second"])
        else:
            dead = dead_letters.dead_tasks(name=name).values_list("id", flat=True)
            count = dead_letters.replay(list(dead), per_second=options["per_second"])
        self.stdout.write(f"{count} replayed.")
        if ids and count < len(set(ids)):
            raise CommandError(f"{len(set(ids)) - count} of the ids are not dead letters.")

    def discard(self, **options: Any) -> None:
        ids = self._parse_ids(options["ids"])
        count = dead_letters.discard(ids, reason=options["reason"])
        self.stdout.write(f"{count} discarded.")
        if count < len(set(ids)):
            raise CommandError(f"{len(set(ids)) - count} of the ids are not dead letters.")

    def pause(self, **options: Any) -> None:
        queues.pause(options["queue"])
        self.stdout.write(f"{options['queue']} is paused: its tasks wait in the ledger.")

    def resume(self, **options: Any) -> None:
        queues.resume(options["queue"])
        self.stdout.write(f"{options['queue']} goes on.")

    def limit(self, **options: Any) -> None:
        rate, at_once = options["per_second"], options["concurrency"]
        queues.limit(options["queue"], per_second=rate, concurrency=at_once)
        said = [] if rate is None else [f"{rate:g} tasks a second"]
        said += [] if at_once is None else [f"{at_once} at once"]
        self.stdout.write(f"{options['queue']} is limited to {', '.join(said)}." if said else "There is no limit now.")

    def prune(self, **options: Any) -> None:
        self.stdout.write(f"{pruner.prune(older_than=_duration(options['older_than']))} tasks deleted.")

    def verify(self, **options: Any) -> None:
        found = {promise: list(violations()) for promise, violations in audit.promises().items()}
        broken = sum(map(len, found.values()))
        if options["json"]:
            self._print_json({"ok": broken == 0, "promises": found})
        else:
            for promise, violations in found.items():
                self.stdout.write(f"{'broken' if violations else 'kept  '}  {promise}")
                for violation in violations:
                    self.stdout.write(f"        {violation}")
        if broken:
            raise CommandError(f"{broken} violations of {sum(map(bool, found.values()))} promises.")

    def _print_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, indent=2, default=str))

    def _parse_ids(self, ids: list[str]) -> list[UUID]:
        known = set()
        for id in ids:
            try:
                known.add(UUID(id))
            except ValueError:
                raise CommandError(f"{id!r} is not a task's id; `outbox dead` lists them.") from None
        return list(known)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise CommandError(f"--older-than takes a number and a unit, such as 7d, 12h or 30m, got {text!r}.")
    return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})
