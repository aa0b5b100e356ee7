"""``manage.py outbox``: inspect the ledger, and act on its tasks and queues."""

import dataclasses
import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError

from celery_ledger import clock, databases, promises
from celery_ledger.databases import atomic, connection
from celery_ledger.desk import (
    cancelling,
    crew,
    dead_letters,
    decisions,
    limits,
    lives,
    pruner,
    queues,
    searching,
    spans,
)
from celery_ledger.ids import row_id
from celery_ledger.management.database import told_in_one_line
from celery_ledger.management.pipes import unheard_from_here_on
from celery_ledger.models import Decision, DurableTask, Heartbeat
from celery_ledger.rows import homes
from celery_ledger.watch import failing, figures

DEAD = "all dead letters"
DONE = {
    Decision.What.RUN_NOW: "run now",
    Decision.What.CANCEL: "cancelled",
    Decision.What.REPLAY: "replayed",
    Decision.What.DISCARD: "discarded",
}
FILTERS = (
    *("status", "task", "queue", "subject", "request_id", "argument", "error"),
    *("newer_than", "older_than", "slower_than"),
)
SCHEDULES = ("schedules", "schedule")
DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = "The ledger of durable tasks: figures, dead letters, pauses, pruning, and the audit of its promises."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database",
            action="append",
            choices=databases.aliases(),
            help="only this one of LEDGER_DATABASES; may be repeated (default: all)",
        )
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        stats = verbs.add_parser("stats", help="figures per queue")
        failing = verbs.add_parser("failing", help="list failing tasks: since when, and with which error")
        failing.add_argument("--json", action="store_true", help="print JSON")
        dead = verbs.add_parser("dead", help="list the dead letters")
        verify = verbs.add_parser("verify", help="audit every promise; exit with 1 and list what is broken")
        stats.add_argument("--tasks", action="store_true", help="per task: duration of its body, and tasks per message")
        for verb in (stats, dead, verify):
            verb.add_argument("--json", action="store_true", help="print JSON")
        tasks = verbs.add_parser("tasks", help="find tasks, newest first; waiting ones by their next run")
        _add_filters(tasks)
        tasks.add_argument(
            "--limit", type=int, default=50, metavar="N", help="list at most this many (default 50; 0: all)"
        )
        tasks.add_argument("--count", action="store_true", help="print only their number")
        task = verbs.add_parser("task", help="show one task, attempt by attempt")
        task.add_argument("id", metavar="ID")
        for verb in (tasks, task):
            verb.add_argument(
                "--json", action="store_true", help="print JSON; for a list of tasks, one object per line"
            )
        run_now = verbs.add_parser("run-now", help="run waiting tasks now")
        replay = verbs.add_parser("replay", help="make dead letters pending again, under the same id")
        discard = verbs.add_parser("discard", help="discard dead letters permanently")
        cancel = verbs.add_parser("cancel", help="cancel waiting tasks and, with --terminate, running ones")
        for verb in (run_now, replay, discard, cancel):
            verb.add_argument("ids", nargs="*", metavar="ID")
            _add_filters(verb)
            verb.add_argument("--dry-run", action="store_true", help="print only how many tasks would be affected")
            verb.add_argument("--json", action="store_true", help="print JSON")
        for verb, which in (
            (run_now, "all tasks that are waiting for their due time"),
            (replay, DEAD),
            (discard, DEAD),
        ):
            verb.add_argument("--all", action="store_true", help=which)
        for verb in (run_now, replay):
            verb.add_argument("--per-second", type=float, metavar="N", help="at most this many per second, in order")
        run_now.add_argument("--reason", default="", metavar="TEXT", help="the reason, recorded in the audit trail")
        discard.add_argument("--reason", default="discarded by an operator", help="kept with the task")
        cancel.add_argument("--canvas", metavar="ID", help="a whole chain, group or chord, by any task's id")
        cancel.add_argument(
            "--reason", required=True, metavar="TEXT", help="the reason, recorded with the task and in the audit trail"
        )
        cancel.add_argument(
            "--terminate", action="store_true", help="also cancel running tasks: their processes are killed"
        )
        cancel.add_argument("--signal", metavar="NAME", help="with --terminate: the signal to send (default TERM)")
        pause = verbs.add_parser("pause", help="keep a queue's tasks in the ledger")
        resume = verbs.add_parser("resume", help="publish them again")
        for verb in (pause, resume):
            verb.add_argument("queue")
        limit = verbs.add_parser("limit", help="limit a queue in the whole cluster; without options, remove the limit")
        limit.add_argument("queue")
        limit.add_argument("--per-second", type=float, metavar="N", help="tasks that may start per second")
        limit.add_argument("--concurrency", type=int, metavar="N", help="tasks that may run at once")
        rate = verbs.add_parser("rate", help="limit how many of a task start per second, in the whole cluster")
        rate.add_argument("task", metavar="TASK")
        rate.add_argument(
            "rate",
            nargs="?",
            metavar="RATE",
            help="such as 10/s, 100/m or 5/h; 0: no limit; left out: as its code says",
        )
        every_limit = verbs.add_parser(
            "limits", help="list the limits by queue, task and key, and what each holds back"
        )
        every_limit.add_argument("--kind", choices=limits.KINDS, help="only these")
        every_limit.add_argument("--json", action="store_true", help="print JSON")
        schedules = verbs.add_parser("schedules", help="list schedules: last run, its outcome, and next due time")
        schedule = verbs.add_parser("schedule", help="run a schedule now, pause it or resume it")
        schedule.add_argument("name", metavar="NAME", help="as listed by `outbox schedules`")
        schedule.add_argument("what", choices=["run-now", "pause", "resume"])
        schedules.add_argument("--json", action="store_true", help="print JSON")
        spans_of = verbs.add_parser("figures", help="show throughput, failures, lag and run time over time")
        spans_of.add_argument("--span", choices=list(figures.SPANS), default="15m", help="how far back (default 15m)")
        spans_of.add_argument("--tasks", action="store_true", help="per task instead of per queue")
        spans_of.add_argument("--json", action="store_true", help="print JSON, with every point and marker")
        workers = verbs.add_parser("workers", help="list workers, relays and beats, and what each is running")
        workers.add_argument("--kind", choices=Heartbeat.Kind.values, help="only these")
        tell = verbs.add_parser("tell", help="drain or resume a worker; stop a worker, relay or beat")
        tell.add_argument(
            "process", metavar="PROCESS", help="as `outbox workers` names it, such as 'worker 4711 at host'"
        )
        tell.add_argument("what", choices=sorted(crew.WISHES))
        workers.add_argument("--json", action="store_true", help="print JSON")
        prune = verbs.add_parser("prune", help="delete old tasks that succeeded")
        prune.add_argument("--older-than", default="7d", metavar="AGE", help="such as 7d, 12h, 30m (default 7d)")
        for verb in (pause, resume, limit, rate, schedule, tell, prune):
            verb.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
            verb.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        verb = getattr(self, options["verb"].replace("-", "_"))
        with unheard_from_here_on():
            if not databases.are_several():
                self._run(verb, options)
                return
            self._json: dict[str, Any] | None = {} if options["json"] else None
            wrong = [line for line in self._run_in_each(verb, options) if line]
            if self._json:
                self.stdout.write(json.dumps(self._json, indent=2, default=str))
        if wrong:
            raise CommandError("; ".join(wrong))

    def _run(self, verb: Callable[..., None], options: dict[str, Any]) -> None:
        try:
            with told_in_one_line():
                verb(**options)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def _run_in_each(self, verb: Callable[..., None], options: dict[str, Any]) -> Iterator[str]:
        """Run a verb in each database, or in those that have the tasks that it names; yield what went wrong there."""
        with told_in_one_line():
            divided = self._divided(options)
        for alias, own in divided.items():
            with databases.using(alias):
                if not options["json"]:
                    self.stdout.write(f"database {alias}")
                try:
                    self._run(verb, own)
                except CommandError as error:
                    yield f"{alias}: {error}"

    def _divided(self, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
        if options["database"]:
            return dict.fromkeys(options["database"], options)
        if options["verb"] in SCHEDULES:  # They are in no ledger, but in the project's own tables.
            return {databases.aliases()[0]: options}
        if named := options.get("ids"):
            found = homes.by_database(self._parse_ids(named))
            return {alias: {**options, "ids": [str(id) for id in ids]} for alias, ids in found.items()}
        if canvas := options.get("canvas"):
            return {homes.of_canvas(row_id(canvas)): options}
        if one := options.get("id"):
            return {homes.of(row_id(one)): options}
        return dict.fromkeys(databases.aliases(), options)

    def stats(self, **options: Any) -> None:
        if options["tasks"]:
            self._stats_of_tasks(as_json=options["json"])
            return
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

    def _stats_of_tasks(self, *, as_json: bool) -> None:
        rides = queues.rides()
        if as_json:
            self._print_json([dataclasses.asdict(ride) for ride in rides])
            return
        self.stdout.write(
            f"{'task':44}{'body':>12}{'may ride':>10}{'rows/message':>14}{'message':>12}{'conflicts':>11}"
        )
        for ride in rides:
            rows, seconds = ride.rows_a_message, ride.seconds_a_message
            self.stdout.write(
                f"{ride.task:44}{1000 * ride.body_seconds:>9.1f} ms{ride.riders:>10}"
                f"{'-' if rows is None else f'{rows:.1f}':>14}"
                f"{'-' if seconds is None else f'{1000 * seconds:.1f} ms':>12}{ride.conflicts:>11}"
            )

    def failing(self, **options: Any) -> None:
        found, now = failing.failing(), clock.now()
        if options["json"]:
            self._print_json([dataclasses.asdict(each) for each in found])
            return
        for each in found:
            self.stdout.write(each.in_words(now))
        if not found:
            self.stdout.write("No task is failing.")

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

    def tasks(self, **options: Any) -> None:
        search = _search(options)
        if options["count"]:
            found = searching.count(search)
            self._say({"count": found.rows, "count_is": found.is_}, str(found), options)
            return
        shown = 0
        for page in self._pages(search, options["limit"]):
            now = clock.now()
            for task in page.tasks:
                state = searching.state_of(task, now=now)
                shown += 1
                if options["json"]:
                    self.stdout.write(json.dumps(_as_json(task, state), default=str))
                else:
                    self.stdout.write(_as_line(task, state))
        if not shown and not options["json"]:
            self.stdout.write("No tasks found.")

    def _pages(self, search: searching.Search, limit: int) -> Iterator[searching.Page]:
        """Yield pages until there are enough; during a long search, print how far it has come."""
        after, left = None, limit
        while True:
            size = min(left, searching.MOST_A_PAGE) if limit else searching.MOST_A_PAGE
            page = searching.page(search, after=after, size=size, patience=1.0)
            yield page
            after, left = page.after, left - len(page.tasks)
            if after is None or (limit and left <= 0):
                return
            if page.looked_to is not None and sys.stderr.isatty():
                self.stderr.write(f"searched back to {page.looked_to:%F %T} UTC")

    def task(self, **options: Any) -> None:
        [id] = self._parse_ids([options["id"]])
        life = lives.life_of(id)
        if life is None:
            raise CommandError("Task not found.")
        if options["json"]:
            said = _as_json(life.task, searching.state_of(life.task, now=clock.now()))
            events = [dataclasses.asdict(event) for event in life.events]
            called = [dataclasses.asdict(each) for each in life.called]
            parent = life.parent and dataclasses.asdict(life.parent)
            self._print_json(
                {
                    "task": said,
                    "events": events,
                    "result": life.result,
                    "trace": life.trace,
                    "parent": parent,
                    "called": called,
                }
            )
            return
        task = life.task
        self.stdout.write(f"{task.name}  {task.id}  {searching.state_of(task, now=clock.now())}")
        self.stdout.write(f"  called with {json.dumps(task.args)} {json.dumps(task.kwargs)}")
        if life.trace:
            self.stdout.write(f"  trace {life.trace}")
        for event in life.events:
            number = f" (attempt {event.attempt})" if event.attempt else ""
            took = f" after {event.took:.3f} s" if event.took is not None else ""
            at = f" at {event.worker}" if event.worker else ""
            self.stdout.write(f"  {event.at:%F %T.%f}  {event.kind}{number}{took}{at}: {event.text}")
            for line in event.traceback.splitlines():
                self.stdout.write(f"      {line}")
        if life.result is not None:
            self.stdout.write(f"  result {life.result}")
        for name, relatives in (("called by", [life.parent] if life.parent else []), ("called", life.called)):
            for each in relatives:
                self.stdout.write(f"  {name} {each.name}  {each.id}  {each.status}")

    def run_now(self, **options: Any) -> None:
        self._decide(Decision.What.RUN_NOW, options, reason=options["reason"], per_second=options["per_second"])

    def replay(self, **options: Any) -> None:
        self._decide(Decision.What.REPLAY, options, per_second=options["per_second"])

    def discard(self, **options: Any) -> None:
        self._decide(Decision.What.DISCARD, options, reason=options["reason"])

    def _decide(self, what: Decision.What, options: dict[str, Any], **how: Any) -> None:
        """Carry out an action on the selected tasks in portions, and print its progress."""
        ids, done = options["ids"], DONE[what]
        if [bool(ids), options["all"], bool(_given(options))].count(True) != 1:
            raise CommandError("Choose tasks: ids, --all, or --task NAME and other filters.")
        if options["dry_run"]:
            self._preview(what, options)
            return
        if ids:
            count = decisions.decide_on(what, self._parse_ids(ids), **how)
        else:
            count = self._carry_out(decisions.write_down(what, _search(options), **how))
        self._say({"count": count}, f"{count} {done}.", options)
        if ids and count < len(set(ids)):
            are = "do not wait for their time" if what == Decision.What.RUN_NOW else "are not dead letters"
            raise CommandError(f"{len(set(ids)) - count} of the ids {are}.")

    def _preview(self, what: Decision.What, options: dict[str, Any]) -> None:
        if options["ids"]:
            count = searching.Count(decisions.applying(what, self._parse_ids(options["ids"])))
        else:
            count = decisions.preview(what, _search(options))
        self._say({"count": count.rows, "count_is": count.is_}, f"{count} would be {DONE[what]}.", options)

    def _carry_out(self, decision: Decision) -> int:
        for count in decisions.steps(decision):
            if decision.wanted > dead_letters.PORTION:
                self.stderr.write(f"{decision.percent:3} %  {count} of {decision.wanted}")
        return decision.done

    def cancel(self, **options: Any) -> None:
        ids, given = options["ids"], _given(options)
        if [bool(ids), bool(given), bool(options["canvas"])].count(True) != 1:
            raise CommandError("Choose tasks: ids, --canvas ID, or --task NAME, --queue QUEUE and other filters.")
        if options["canvas"]:
            self._cancel_canvas(options)
        else:
            self._cancel_tasks(options)

    def _cancel_tasks(self, options: dict[str, Any]) -> None:
        ids, given = options["ids"], _given(options)
        how = {"reason": options["reason"], "terminate": options["terminate"], "signal": options["signal"]}
        by_name = given.keys() <= {"task", "queue"}
        tasks = cancelling.waiting(task=options["task"], queue=options["queue"], begun=options["terminate"])
        chosen = self._parse_ids(ids)
        if options["dry_run"] and (ids or by_name):
            count = sum(tasks.filter(id=id).count() for id in chosen) if ids else tasks.count()
            self._say({"count": count, "count_is": "exact"}, f"{count} would be cancelled.", options)
            return
        if options["dry_run"]:
            self._preview(Decision.What.CANCEL, options)
            return
        if not ids and not by_name and options["terminate"]:
            raise CommandError("--terminate accepts ids, --task or --queue only.")
        count = 0
        if ids:
            count = cancelling.cancel(chosen, **how)
        elif by_name:
            for count in cancelling.cancel_all(tasks, **how):
                if count > cancelling.PORTION:
                    self.stderr.write(f"{count} cancelled so far")
        else:
            what = Decision.What.CANCEL
            count = self._carry_out(decisions.write_down(what, _search(options), reason=options["reason"]))
        self._say({"count": count}, f"{count} cancelled.", options)
        if ids and count < len(chosen):
            raise CommandError(
                f"{len(chosen) - count} of the ids are not waiting: they are running, have ended, or do not exist."
            )

    def _cancel_canvas(self, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            canvas = cancelling.canvas_of(options["canvas"])
            count = cancelling.waiting(begun=options["terminate"]).filter(canvas=canvas).count()
            self._say({"count": count, "count_is": "exact"}, f"{count} would be cancelled.", options)
            return
        how = {"reason": options["reason"], "terminate": options["terminate"], "signal": options["signal"]}
        count = cancelling.cancel_canvas(options["canvas"], **how)
        self._say({"count": count}, f"{count} cancelled.", options)

    def _say(self, value: dict[str, Any], text: str, options: dict[str, Any]) -> None:
        if options["json"]:
            self._print_json(value)
        else:
            self.stdout.write(text)

    @contextmanager
    def _changing(self, options: dict[str, Any]) -> Iterator[None]:
        """Commit the block's changes or, in a dry run, roll them back at its end."""
        with atomic():
            yield
            connection.set_rollback(options["dry_run"])

    def _say_change(self, value: dict[str, Any], text: str, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            value, text = {**value, "dry_run": True}, f"Nothing was changed. Without --dry-run: {text}"
        self._say(value, text, options)

    def _change_queue(self, change: Callable[[str], None], text: str, options: dict[str, Any]) -> None:
        with self._changing(options):
            change(options["queue"])
            [state] = [state for state in queues.queue_states() if state.queue == options["queue"]]
        self._say_change(dataclasses.asdict(state), text, options)

    def pause(self, **options: Any) -> None:
        self._change_queue(queues.pause, f"{options['queue']} is paused: its tasks wait in the ledger.", options)

    def resume(self, **options: Any) -> None:
        self._change_queue(queues.resume, f"{options['queue']} is resumed.", options)

    def limit(self, **options: Any) -> None:
        rate, at_once = options["per_second"], options["concurrency"]
        said = [] if rate is None else [f"{rate:g} tasks a second"]
        said += [] if at_once is None else [f"{at_once} at once"]
        text = f"{options['queue']} is limited to {', '.join(said)}." if said else "The limit is removed."
        self._change_queue(partial(queues.limit, per_second=rate, concurrency=at_once), text, options)

    def rate(self, **options: Any) -> None:
        try:
            with self._changing(options):
                kept = limits.limit_task(options["task"], options["rate"])
        except LookupError as error:
            raise CommandError(str(error)) from None
        rate = kept.own_rate if kept.rate is None else kept.rate
        text = f"limited to {rate}" if rate and rate != "0" else "not limited"
        self._say_change(dataclasses.asdict(kept), f"{kept.task} is {text}.", options)

    def limits(self, **options: Any) -> None:
        found = [each for each in limits.limits() if options["kind"] in {None, each.kind}]
        if options["json"]:
            self._print_json(
                [
                    dataclasses.asdict(each) | {"held_back": each.held_back.rows, "held_back_is": each.held_back.is_}
                    for each in found
                ]
            )
            return
        for each in found:
            said = [each.said] if each.said else []
            said += [f"{each.concurrency} at once"] if each.concurrency is not None else []
            running = "" if each.under_way is None else f"  {each.under_way} under way"
            until = "" if each.until is None else f" until {each.until:%F %T} UTC"
            self.stdout.write(
                f"{each.kind}  {each.name}  {', '.join(said)}{running}  {each.held_back} held back{until}"
            )
        if not found:
            self.stdout.write("There are no limits.")

    def schedules(self, **options: Any) -> None:
        found = _timetable().schedules()
        if options["json"]:
            self._print_json([dataclasses.asdict(each) for each in found])
            return
        for each in found:
            said = each.problem or (f"late since {each.late_since:%F %T} UTC" if each.late_since else "")
            said = said or ("" if each.enabled else "paused")
            self.stdout.write(f"{each.name}  {each.task}  {each.times}{'  ' if said else ''}{said}")
            for run in each.runs[:1]:
                took = "" if run.took_seconds is None else f" in {run.took_seconds:.1f} s"
                self.stdout.write(f"    ran {run.enqueued_at:%F %T} UTC: {run.status or 'pruned'}{took}  {run.error}")
            if each.next_due:
                self.stdout.write(f"    due {', '.join(f'{time:%F %T}' for time in each.next_due)} UTC")
        if not found:
            self.stdout.write("There are no schedules.")

    def schedule(self, **options: Any) -> None:
        timetable = _timetable()
        ids = [each.id for each in timetable.schedules() if each.name == options["name"]]
        if not ids:
            raise CommandError(f"There is no schedule {options['name']!r}; `outbox schedules` lists them.")
        with self._changing(options):
            timetable.DECISIONS[options["what"]](ids[0])
            [told] = [each for each in timetable.schedules() if each.id == ids[0]]
        done = {"run-now": "is enqueued once", "pause": "is paused", "resume": "goes on"}[options["what"]]
        self._say_change(dataclasses.asdict(told), f"{told.name} {done}.", options)

    def figures(self, **options: Any) -> None:
        found = figures.overview(options["span"])
        if options["json"]:
            marked = [{"at": mark.at, "kind": mark.kind, "text": mark.text} for mark in found.marks]
            self._print_json(dataclasses.asdict(dataclasses.replace(found, marks=[])) | {"marks": marked})
            return
        if found.since is None:
            self.stdout.write("No figures yet: a relay records them every minute.")
            return
        self.stdout.write(f"since {found.since:%F %T} UTC")
        self.stdout.write(
            f"{'task' if options['tasks'] else 'queue':44}{'done/min':>10}{'failed':>8}{'dead':>7}"
            f"{'lag p50':>10}{'p95':>10}{'p99':>10}{'run':>10}"
        )
        for line in found.tasks if options["tasks"] else found.queues:
            seconds = (line.lag_p50, line.lag_p95, line.lag_p99, line.run_seconds)
            self.stdout.write(
                f"{line.task or line.queue:44}{line.per_minute:>10.1f}{line.failed:>8}{line.dead:>7}"
                + "".join(f"{'-' if each is None else f'{each:.3f} s':>10}" for each in seconds)
            )
        for mark in found.marks:
            self.stdout.write(f"{mark.at:%F %T} UTC  {mark.kind} {mark.text}")

    def workers(self, **options: Any) -> None:
        found = [each for each in crew.processes() if options["kind"] in {None, each.kind}]
        if options["json"]:
            self._print_json([dataclasses.asdict(each) for each in found])
            return
        for each in found:
            memory = "" if each.memory is None else f"  {each.memory / 2**20:.0f} MB"
            wish = f"  told to {each.wish}" if each.wish else ""
            release = f"  release {each.release}" if each.release else ""
            self.stdout.write(f"{each.process}  {each.state}{wish}{release}{memory}  since {each.started_at:%F %T} UTC")
            if each.problem:
                self.stdout.write(f"    {each.problem}")
            if each.queues:
                self.stdout.write(f"    queues {', '.join(each.queues)}")
            for doing in each.doing:
                rows = f" and {doing['tasks'] - 1} more" if doing["tasks"] > 1 else ""
                self.stdout.write(f"    {doing['task']} {doing['id']}{rows} for {doing['seconds']:.1f} s")
        if not found:
            self.stdout.write("No process is running.")

    def tell(self, **options: Any) -> None:
        try:
            with self._changing(options):
                told = crew.tell(options["process"], options["what"])
        except (LookupError, crew.NotToldError) as error:
            raise CommandError(str(error)) from None
        text = f"{told.process} is told to {options['what']}, and does so within seconds."
        self._say_change(dataclasses.asdict(told), text, options)

    def prune(self, **options: Any) -> None:
        work = pruner.count if options["dry_run"] else pruner.prune
        count = work(older_than=_duration(options["older_than"]))
        self._say_change({"count": count}, f"{count} {'task' if count == 1 else 'tasks'} deleted.", options)

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
        if getattr(self, "_json", None) is not None:
            self._json[databases.current()] = value  # type: ignore[index]
            return
        self.stdout.write(json.dumps(value, indent=2, default=str))

    def _parse_ids(self, ids: list[str]) -> list[UUID]:
        known = set()
        for id in ids:
            try:
                known.add(UUID(id))
            except ValueError:
                raise CommandError(f"{id!r} is not a task id; `outbox dead` lists them.") from None
        return list(known)


def _timetable() -> Any:
    """
    Return the module for schedules.

    Raises:
        CommandError: this project has no schedules.
    """
    if not apps.is_installed("celery_ledger.contrib.beat"):
        raise CommandError("There are no schedules: celery_ledger.contrib.beat is not in INSTALLED_APPS.")
    return import_module("celery_ledger.contrib.beat.timetable")


def _add_filters(verb: ArgumentParser) -> None:
    states = ", ".join(searching.State)
    verb.add_argument(
        "--status", choices=[str(state) for state in searching.State], metavar="STATUS", help=f"one of {states}"
    )
    verb.add_argument("--task", metavar="NAME", help="with this name")
    verb.add_argument("--queue", metavar="QUEUE", help="in this queue")
    verb.add_argument("--subject", metavar="SUBJECT", help="with this subject, such as app.model:42")
    verb.add_argument("--request-id", metavar="ID", help="enqueued by this request")
    verb.add_argument(
        "--argument", metavar="WISH", help="called with this value, name=value, or JSON of names and values"
    )
    verb.add_argument("--error", metavar="TEXT", help="whose last error contains this text")
    verb.add_argument("--newer-than", metavar="SPAN", help="enqueued at most this long ago, such as 15m, 6h, 7d")
    verb.add_argument("--older-than", metavar="SPAN", help="enqueued at least this long ago, such as 1h")
    verb.add_argument("--slower-than", metavar="SPAN", help="that took at least this long, such as 10s")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in FILTERS if options.get(name) is not None}


def _search(options: dict[str, Any]) -> searching.Search:
    """Return the search that the options describe; raises ValueError if they are invalid."""
    given = _given(options)
    newer, older, slower = (given.pop(name, None) for name in ("newer_than", "older_than", "slower_than"))
    now = clock.now()
    return searching.Search(
        state=given.pop("status", None),
        since=now - spans.read(newer) if newer else None,
        until=now - spans.read(older) if older else None,
        slower_than=spans.read(slower).total_seconds() if slower else None,
        **given,
    )


def _as_json(task: DurableTask, state: str) -> dict[str, Any]:
    return {
        "id": str(task.id),
        "task": task.name,
        "queue": task.queue,
        "status": task.status,
        "state": state,
        "attempts": task.attempts,
        "subject": task.subject,
        "request_id": task.request_id,
        "args": task.args,
        "kwargs": task.kwargs,
        "enqueued_at": task.created_at,
        "next_at": task.available_at if task.status == DurableTask.Status.PENDING else None,
        "published_at": task.published_at,
        "completed_at": task.completed_at,
        "last_error": task.last_error,
    }


def _as_line(task: DurableTask, state: str) -> str:
    """Return a task in one line, with its error shortened and without line breaks."""
    waits = state in {"retrying", "scheduled"}
    when = f"next {task.available_at:%F %T}" if waits else f"{task.created_at:%F %T}"
    error = " ".join(task.last_error.split())[:100]
    return f"{task.id}  {when}  {state:9}  {task.name}  {task.attempts} attempts{'  ' if error else ''}{error}"


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise CommandError(f"--older-than takes a number and a unit, such as 7d, 12h or 30m, got {text!r}.")
    return timedelta(**{DURATION_UNITS[match[2]]: int(match[1])})
