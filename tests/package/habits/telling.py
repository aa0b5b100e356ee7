"""
Bodies declared in each way in which a call can run, as durable tasks and as one of Celery's.

What signals and hooks are told of a call, with all their arguments, and what its body sees of its request, is noted in
the file that the call is given: a line of JSON each, in which its id is ``ID`` and errors are their words.
"""

import json
from types import TracebackType

from celery import Task, shared_task, signals
from habits import note

import celery_ledger
from celery_ledger.context import current_carrier

REQUEST = (
    *("id", "args", "kwargs", "retries", "root_id", "parent_id", "group", "eta", "expires", "headers", "hostname"),
    *("origin", "timelimit", "is_eager", "called_directly", "task", "argsrepr", "shadow"),
)


def told(path, id, name, /, **what):
    note(path, json.dumps({"told": name, **what}, default=in_words, sort_keys=True).replace(id, "ID"))


def in_words(value):
    if isinstance(value, Task):
        return "the task"
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, TracebackType):
        return "a traceback"
    if hasattr(value, "exception"):  # The error's information, for hooks.
        return f"{value.type.__name__}, {'Traceback' in value.traceback}"
    if hasattr(value, "root_id"):
        return {name: getattr(value, name) for name in ("id", "root_id", "args", "kwargs")}
    return type(value).__name__


class Noting(celery_ledger.Task):
    abstract = True

    def before_start(self, task_id, args, kwargs):
        told(args[0][0], task_id, "before_start", task_id=task_id, args=args, kwargs=kwargs, me=self.request.id)

    def on_success(self, retval, task_id, args, kwargs):
        told(args[0][0], task_id, "on_success", retval=retval, task_id=task_id, args=args, kwargs=kwargs)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        told(args[0][0], task_id, "on_failure", exc=exc, task_id=task_id, args=args, kwargs=kwargs, einfo=einfo)

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        told(args[0][0], task_id, "on_retry", exc=exc, task_id=task_id, args=args, kwargs=kwargs, einfo=einfo)

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        what = {"status": status, "retval": retval, "task_id": task_id, "args": args, "kwargs": kwargs, "einfo": einfo}
        told(args[0][0], task_id, "after_return", **what)


def come_to(self, end):
    if end == "fail":
        raise OSError("It cannot be done.")
    if end == "retry" and not self.request.retries:
        raise self.retry(countdown=0.1, exc=OSError("Not yet."))
    return "done"


def body(self, item):
    path, end = item
    request = {name: getattr(self.request, name) for name in REQUEST}
    delivery, properties = self.request.delivery_info, self.request.properties
    request |= {"queue": delivery["routing_key"], "delivery": sorted(delivery)}
    if not self.request.retries:  # Plain Celery does not keep them for a retry.
        request["colour"] = properties.get("colour")
    told(path, self.request.id, "body", **request)
    if (carrier := current_carrier()) is not None:
        note(f"{path}.message", f"{carrier.id} {carrier.delivery_info['routing_key']}")
    return come_to(self, end)


def together(self, items):
    for path, _ in items:
        note(f"{path}.message", current_carrier().id)
    for _, end in items:
        come_to(self, end)


PLAIN = shared_task(name="telling.plain", bind=True, base=Noting, durable=False)(body)
WAYS = {
    "outside": shared_task(name="telling.outside", bind=True, base=Noting)(body),
    "inside": shared_task(name="telling.inside", bind=True, base=Noting, transactional=True)(body),
    "batched": shared_task(name="telling.batched", bind=True, base=Noting, transactional=True, batch_size=10)(together),
}


def listen(name):
    signal = getattr(signals, name)

    def hear(sender, **what):
        what.pop("signal")
        request = what.get("request") or getattr(sender, "request", None)
        if "body" in what:
            name_of_task, args, id = sender, what["body"][0], what["headers"]["id"]
        else:
            task = getattr(request, "task", sender)
            name_of_task, args, id = getattr(task, "name", task), request.args, request.id
        if name_of_task.startswith("telling."):
            told(args[0][0], id, name, sender=sender, **what)

    signal.connect(hear, weak=False)


for name in (
    *("before_task_publish", "after_task_publish", "task_received", "task_prerun", "task_postrun"),
    *("task_success", "task_failure", "task_retry", "task_revoked"),
):
    listen(name)
