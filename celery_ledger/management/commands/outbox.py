"""``manage.py outbox``: look at the ledger, and put right what only a person may."""

import dataclasses
import json
import re
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from celery_ledger import promises
from celery_ledger.desk import cancelling, dead_letters, decisions, pruner, queues
from celery_ledger.management.database import told_in_one_line
from celery_ledger.management.pipes import unheard_from_here_on
from celery_ledger.models import Decision

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
        discard.add_argument("ids", nargs="*", metavar="ID")
        discard.add_argument("--all", action="store_true", help="all dead letters")
        discard.add_argument("--task", metavar="NAME", help="all dead letters of one task")
        discard.add_argument("--reason", default="discarded by an operator", help="kept with the task")
        cancel = verbs.add_parser("cancel", help="end tasks for good: those that wait, and if so told those that run")
        cancel.add_argument("ids", nargs="*", metavar="ID")
        cancel.add_argument("--task", metavar="NAME", help="all of one task")
        cancel.add_argument("--queue", metavar="QUEUE", help="all of one queue; with --task, those of both")
        cancel.add_argument("--reason", required=True, metavar="TEXT", help="why, kept with the task and on record")
        cancel.add_argument("--terminate", action="store_true", help="also those that run: their processes are killed")
        cancel.add_argument("--signal", metavar="NAME", help="with --terminate: by which signal (default TERM)")
        cancel.add_argument("--dry-run", action="store_true", help="only say how many it would be")
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
            with told_in_one_line(), unheard_from_here_on():
                getattr(self, options["verb"])(**options)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def stats(self, **options: Any) -> None:
        states = [dataclasses.asdict(state) for state in queues.queue_states()]
        if options["json"]:
            self._print_json(states)
            return
        self.stdout.write(
            f"{'queue':14}{'pending':>9}{'retrying':>10}{'published':>11}{'running':>9}{'dead':>7}{'oldest':>10}{'done/min':>10}"
        )
        for state in states:
            oldest = state["oldest_pending_seconds"]
            self.stdout.write(
                f"{state['queue']:14}{state['pending']:>9}{state['retrying']:>10}{state['published']:>11}{state['running']:>9}"
                f"{state['dead']:>7}{'-' if oldest is None else f'{oldest:.1f} s':>10}"
                f"{state['completed_per_minute']:>10}{'  paused' if state['paused'] else ''}"
                f"{'  limited' if state['per_second'] or state['concurrency'] else ''}"
            )

    def dead(self, **options: Any) -> None:
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
                    for task in dead_letters.in_order()
                ]
            )
            return
        task = None
        for task in dead_letters.in_order():
            self.stdout.write(f"{task.id}  {task.name}  {task.attempts} attempts  {task.last_error}")
        if task is None:
            self.stdout.write("There are no dead letters.")

    def replay(self, **options: Any) -> None:
        self._decide(Decision.What.REPLAY, "replayed", options, per_second=options["per_second"])

    def discard(self, **options: Any) -> None:
        self._decide(Decision.What.DISCARD, "discarded", options, reason=options["reason"])

    def _decide(self, what: Decision.What, done: str, options: dict[str, Any], **how: Any) -> None:
        """Replay or discard what the options name, in portions, and say how far that is while it lasts."""
        ids, name = options["ids"], options["task"]
        if [bool(ids), options["all"], name is not None].count(True) != 1:
            raise CommandError("Say which: ids, --all, or --task NAME.")
        if ids:
            of_ids = dead_letters.replay if what == Decision.What.REPLAY else dead_letters.discard
            count = of_ids(self._parse_ids(ids), **how)
        else:
            decision = decisions.write_down(what, dead_letters.Selection(task=name), **how)
            for count in decisions.steps(decision):
                if decision.wanted > dead_letters.PORTION:
                    self.stderr.write(f"{decision.percent:3} %  {count} of {decision.wanted}")
            count = decision.done
        self.stdout.write(f"{count} {done}.")
        if ids and count < len(set(ids)):
            raise CommandError(f"{len(set(ids)) - count} of the ids are not dead letters.")

    def cancel(self, **options: Any) -> None:
        ids, name, queue = options["ids"], options["task"], options["queue"]
        if bool(ids) == (name is not None or queue is not None):
            raise CommandError("Say which: ids, or --task NAME, or --queue QUEUE.")
        chosen = self._parse_ids(ids)
        how = {"reason": options["reason"], "terminate": options["terminate"], "signal": options["signal"]}
        tasks = cancelling.waiting(task=name, queue=queue, begun=options["terminate"])
        count = 0
        if options["dry_run"]:
            count = sum(tasks.filter(id=id).count() for id in chosen) if ids else tasks.count()
            self.stdout.write(f"{count} would be cancelled.")
            return
        if ids:
            count = cancelling.cancel(chosen, **how)
        else:
            for count in cancelling.cancel_all(tasks, **how):
                if count > cancelling.PORTION:
                    self.stderr.write(f"{count} cancelled so far")
        self.stdout.write(f"{count} cancelled.")
        if ids and count < len(chosen):
            raise CommandError(f"{len(chosen) - count} of the ids do not wait: they run, have ended, or are not there.")

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
        count = pruner.prune(older_than=_duration(options["older_than"]))
        self.stdout.write(f"{count} {'task' if count == 1 else 'tasks'} deleted.")

    def verify(self, **options: Any) -> None:
        found = {promise: list(violations()) for promise, violations in promises.promises().items()}
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
