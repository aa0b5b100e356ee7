"""
Search for tasks in a ledger of any size: a page of results, and their number.

No page counts or visits millions of rows. Open and dead tasks, and those about one subject, are found by an index.
Otherwise rows are visited newest first for a bounded time: the page says how far back it has looked, and its cursor
continues from there. A count is exact where few rows are possible; otherwise it is the planner's estimate or a lower
bound, and says which.
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID

from celery import current_app
from django.db.models import BooleanField, F, Func, Q, QuerySet
from django.db.models.functions import Coalesce, Now

from celery_ledger.databases import connection
from celery_ledger.models import DurableTask, Tally
from celery_ledger.rows.calls import is_storable
from celery_ledger.uuid7 import first_uuid7_at

Status = DurableTask.Status
#: Seconds for which one page may search.
PATIENCE: Final = 0.05
#: How many rows one statement searches at first, and at most.
FIRST_LOOK, LONGEST_LOOK = 2_000, 32_000
#: Up to this many rows are counted one by one.
MOST_COUNTED: Final = 5_000
#: The longest page.
MOST_A_PAGE: Final = 500
#: The most task names that a part of a name may match.
MOST_NAMES: Final = 200
UNENDED = (Status.PENDING, Status.PUBLISHED, Status.RUNNING)


class State(StrEnum):
    """The states to search for: each status, and kinds of pending tasks."""

    PENDING = "pending"
    PUBLISHED = "published"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    #: Pending after a failure.
    RETRYING = "retrying"
    #: Pending, not started before, and due later.
    SCHEDULED = "scheduled"
    #: Pending and due later: both of the above.
    LATER = "later"
    #: Pending, published or running.
    OPEN = "open"


#: Shown in the order in which they run next.
LATER = (State.RETRYING, State.SCHEDULED, State.LATER)
#: Not covered by an index: searched among all rows.
UNINDEXED = (None, State.SUCCEEDED, State.CANCELLED)


@dataclass(frozen=True)
class Search:
    """A search for tasks that meet all given conditions; without any, for all tasks."""

    state: str | None = None
    id: UUID | None = None
    task: str | None = None
    queue: str | None = None
    #: The object it is about, such as ``app.model:42``.
    subject: str | None = None
    #: The request that enqueued it.
    request_id: str | None = None
    #: A value among its arguments, ``name=value``, or several as JSON; see :func:`among_arguments`.
    argument: str | None = None
    #: Part of its last error.
    error: str | None = None
    #: Part of its name or of its last error.
    words: str | None = None
    #: When it was enqueued: from, and before.
    since: datetime | None = None
    until: datetime | None = None
    #: Minimum seconds from its last publishing to its end, or to now.
    slower_than: float | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in list(State):
            raise ValueError(f"There is no state {self.state!r}; there are {', '.join(State)}.")
        if self.argument is not None:
            among_arguments(self.argument)

    def tasks(self) -> QuerySet[DurableTask]:
        """Return the matching tasks, unordered, including those that died before the time of death was stored."""
        return DurableTask.objects.filter(*self._conditions()) if self.state == State.DEAD else self.dated()

    def dated(self) -> QuerySet[DurableTask]:
        """Return the matching tasks that have a position in :meth:`order`, unordered."""
        return self.base().filter(*self._conditions())

    def base(self) -> QuerySet[DurableTask]:
        """Return the tasks to search: those that an index leads to."""
        tasks = DurableTask.objects.all()
        if self.id is not None:
            return tasks.filter(id=self.id)
        if self.subject is not None:
            return tasks.filter(subject=self.subject)
        if self.state == State.PENDING:
            return tasks.filter(status=Status.PENDING)
        if self.state in LATER:
            return tasks.filter(_OF_STATE[State(self.state)], _LATER)
        if self.state in {State.PUBLISHED, State.RUNNING}:
            return tasks.filter(_OF_STATE[State(self.state)], lease_until__isnull=False)
        if self.state == State.OPEN:
            return tasks.filter(Q(status=Status.PENDING) | _HELD)
        if self.state == State.DEAD:
            return tasks.filter(status=Status.DEAD, completed_at__isnull=False)
        if self.since is not None:
            tasks = tasks.filter(id__gte=first_uuid7_at(self.since))
        return tasks if self.until is None else tasks.filter(id__lt=first_uuid7_at(self.until))

    def is_whole_base(self) -> bool:
        """Whether every task in :meth:`base` matches."""
        rest = {name for name, value in asdict(self).items() if value is not None}
        return rest <= ({"state"} if self.state not in UNINDEXED else {"since", "until"})

    def order(self) -> tuple[str, ...]:
        """Return the sort order: by next run, by time of death, or newest first."""
        if self.state in LATER:
            return ("available_at", "id")
        if self.state == State.DEAD:
            return ("-completed_at", "-id")
        return ("-id",)

    def as_json(self) -> dict[str, Any]:
        """Return the conditions that are set, and always the state."""
        given = {name: value for name, value in asdict(self).items() if value is not None or name == "state"}
        return {name: _plainly(value) for name, value in given.items()}

    def _plain_lookups(self) -> list[tuple[str, Any]]:
        return [
            ("id", self.id),
            ("name", self.task),
            ("queue", self.queue),
            ("subject", self.subject),
            ("request_id", self.request_id),
            ("last_error__icontains", self.error),
            ("created_at__gte", self.since),
            ("created_at__lt", self.until),
        ]

    def _conditions(self) -> list[Any]:
        conditions: list[Any] = [Q(**{lookup: value}) for lookup, value in self._plain_lookups() if value is not None]
        if self.state is not None:
            conditions.append(_OF_STATE[State(self.state)])
        if self.words is not None:
            conditions.append(Q(name__in=_named_like(self.words)) | Q(last_error__icontains=self.words))
        if self.slower_than is not None:
            bound = Coalesce(F("completed_at"), Now()) - timedelta(seconds=self.slower_than)
            conditions.append(Q(published_at__lte=bound))
        if self.argument is not None:
            conditions.append(among_arguments(self.argument))
        return conditions


def search_of(given: dict[str, Any]) -> Search:
    """
    Return the search from the output of :meth:`Search.as_json`.

    Raises:
        ValueError: ``given`` is not such an output.
    """
    if unknown := given.keys() - {field.name for field in fields(Search)}:
        raise ValueError(f"Tasks cannot be searched by {', '.join(sorted(unknown))}.")
    read: dict[str, Any] = {name: datetime.fromisoformat(given[name]) for name in ("since", "until") if given.get(name)}
    if given.get("id"):
        read["id"] = UUID(given["id"])
    return Search(**(given | read))


def meant_by(words: str, search: Search) -> Search:
    """
    Return ``search`` narrowed to a user's likely meaning of ``words``.

    The id of a task or of a request, a subject such as ``app.model:42``, an argument as ``name=value``, or else a part
    of a task's name or of an error.
    """
    words = words.strip()
    if not words:
        return search
    try:
        id = UUID(words)
    except ValueError:
        pass
    else:
        is_task = DurableTask.objects.filter(id=id).exists()
        return replace(search, id=id) if is_task else replace(search, request_id=words)
    if _SUBJECT.fullmatch(words):
        return replace(search, subject=words)
    if _NAMED.fullmatch(words):
        return replace(search, argument=words)
    return replace(search, words=words)


def state_of(task: DurableTask, *, now: datetime | None = None) -> str:
    """Return a task's status or, if it is pending, its kind."""
    if task.status != Status.PENDING:
        return task.status
    if task.attempts:
        return State.RETRYING.value
    return State.SCHEDULED.value if now is not None and task.available_at > now else task.status


def _named_like(words: str) -> list[str]:
    """Return task names that contain ``words``, from the project's tasks and those that ran here."""
    ran = Tally.objects.filter(name__icontains=words).values_list("name", flat=True).distinct()
    return sorted({*ran[:MOST_NAMES], *(name for name in current_app.tasks if words.lower() in name.lower())})


def _plainly(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


_SUBJECT = re.compile(r"[A-Za-z_]\w*\.\w+:\S+")


_LATER = Q(status=Status.PENDING, available_at__gt=F("created_at"))
_HELD = Q(status__in=[Status.PUBLISHED, Status.RUNNING], lease_until__isnull=False)
_OF_STATE: dict[State, Q] = {
    **{State(status): Q(status=status) for status in Status.values},
    State.RETRYING: Q(status=Status.PENDING, attempts__gt=0),
    State.SCHEDULED: Q(status=Status.PENDING, attempts=0, available_at__gt=Now()),
    State.LATER: Q(status=Status.PENDING, available_at__gt=Now()),
    State.OPEN: Q(status__in=UNENDED),
}


@dataclass(frozen=True)
class Page:
    """
    A page of results.

    ``after`` is the cursor from which to continue; None if this was all. ``looked_to`` is how far the time was enough:
    there may be more that was enqueued, died or is due beyond it; None if the page is full or complete.
    """

    tasks: list[DurableTask]
    after: str | None
    looked_to: datetime | None = None


def page(search: Search, *, after: str | None = None, size: int = 50, patience: float = PATIENCE) -> Page:
    """
    Return the next ``size`` tasks of ``search``, from the cursor ``after`` on.

    Raises:
        ValueError: the cursor does not belong to this search.
    """
    size = min(max(1, size), MOST_A_PAGE)
    order, meant = search.order(), search.dated().order_by(*search.order())
    here = None if after is None else _read_cursor(after, len(order))
    if search.is_whole_base():
        found = list(_beyond(meant, order, here)[: size + 1])
        return Page(found[:size], _cursor(order, found[size - 1]) if len(found) > size else None)
    base = search.base().order_by(*order).values_list(*(name.lstrip("-") for name in order))
    found, look, end = [], FIRST_LOOK, time.monotonic() + patience
    while True:
        began = time.monotonic()
        edge = _beyond(base, order, here)[look : look + 1].first()
        within = _beyond(meant, order, here)
        found += (within if edge is None else _until(within, order, edge))[: size + 1 - len(found)]
        if len(found) > size:
            return Page(found[:size], _cursor(order, found[size - 1]))
        if edge is None:
            return Page(found, None)
        here = edge
        now = time.monotonic()
        if now >= end:
            return Page(found, _written(edge), looked_to=_moment_of(edge))
        # As many rows as the remaining time allows at the pace of this statement.
        share = (end - now) / max(now - began, 0.001)
        look = int(min(LONGEST_LOOK, max(FIRST_LOOK, look * min(4.0, share))))


@dataclass(frozen=True)
class Count:
    """A number of tasks, and how exact it is."""

    rows: int
    is_: Literal["exact", "estimate", "at least"] = "exact"

    def __str__(self) -> str:
        return {"exact": "", "estimate": "about ", "at least": "at least "}[self.is_] + f"{self.rows:,}"


def count(search: Search) -> Count:
    """Return the number of tasks that match ``search``, at a bounded cost."""
    base, meant = search.base(), search.dated().order_by()
    order = search.order()
    keys = base.order_by(*order).values_list(*(name.lstrip("-") for name in order))
    edge = keys[MOST_COUNTED : MOST_COUNTED + 1].first()
    if edge is None:
        return Count(meant.count())
    if connection.vendor == "postgresql" and not (search.argument or search.error or search.words):
        # The planner guesses what it has no statistics about, and no estimate is better than such a guess.
        return Count(_estimate(meant), "estimate")
    return Count(_until(meant, order, edge).count(), "at least")


def _estimate(tasks: QuerySet[DurableTask]) -> int:
    """Return the planner's estimate of the number of rows."""
    plan: Any = tasks.values("id").explain(format="json")
    return int((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])


def _beyond(rows: QuerySet[Any], order: Sequence[str], key: tuple[Any, ...] | None) -> QuerySet[Any]:
    """Return the condition for rows after ``key`` in ``order``."""
    if key is None:
        return rows
    way = "lt" if order[0].startswith("-") else "gt"
    return rows.filter(_compared(order, key, way))


def _until(rows: QuerySet[Any], order: Sequence[str], key: tuple[Any, ...]) -> QuerySet[Any]:
    """Return the condition for rows up to ``key`` in ``order``."""
    way = "gte" if order[0].startswith("-") else "lte"
    return rows.filter(_compared(order, key, way))


def _compared(order: Sequence[str], key: tuple[Any, ...], way: str) -> Q:
    first = order[0].lstrip("-")
    if len(key) == 1:
        return Q(**{f"{first}__{way}": key[0]})  # Only one bound: no index makes a range of two.
    # The first condition is the one by which the index is entered.
    return Q(**{f"{first}__{way[:2]}e": key[0]}) & (Q(**{f"{first}__{way[:2]}": key[0]}) | Q(**{f"id__{way}": key[1]}))


def _cursor(order: Sequence[str], task: DurableTask) -> str:
    return _written(tuple(getattr(task, name.lstrip("-")) for name in order))


def _written(key: tuple[Any, ...]) -> str:
    return "~".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in key)


def _read_cursor(text: str, parts: int) -> tuple[Any, ...]:
    given = text.split("~")
    if len(given) != parts:
        raise ValueError("This cursor does not belong to this search.")
    key = (*(datetime.fromisoformat(moment) for moment in given[:-1]), UUID(given[-1]))
    if any(isinstance(part, datetime) and part.tzinfo is None for part in key):
        raise ValueError("This cursor does not belong to this search.")
    return key


def _moment_of(key: tuple[Any, ...]) -> datetime | None:
    """Return the time of a sort key; for an id, the creation time encoded in it, if any."""
    if len(key) > 1:
        moment: datetime = key[0]
        return moment
    id: UUID = key[0]
    return _EPOCH + timedelta(milliseconds=id.int >> 80) if id.version == 7 else None


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


# --- By argument ---

_NAMED = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)


def among_arguments(wish: str) -> Q:
    """
    Return the condition that a task was called with the argument that ``wish`` describes.

    A number or a word matches any argument; ``name=value``, the argument of that name; a JSON object, several named
    arguments; an array, the first positional arguments. Values cannot be lists or objects.

    Raises:
        ValueError: it is none of these.
    """
    if match := _NAMED.fullmatch(wish.strip()):
        return _either(match[2], lambda value: Q(HasValue("kwargs", key=match[1], value=value)))
    read = _as_json(wish)
    if isinstance(read, dict) and read:
        return _all(Q(HasValue("kwargs", key=name, value=_plain(value))) for name, value in read.items())
    if isinstance(read, list) and read:
        return _all(Q(HasValue("args", key=place, value=_plain(value))) for place, value in enumerate(read))
    if read in ([], {}) or not wish.strip():
        raise ValueError("Say which argument: a value, name=value, or a JSON object of names and values.")
    return _either(wish, lambda value: Q(HasValue("args", value=value)) | Q(HasValue("kwargs", value=value)))


def _either(text: str, condition: Any) -> Q:
    """Return ``condition`` for ``text`` as JSON or as plain text: 42 may be a number or a string."""
    read, plain = _as_json(text), text.strip()
    found: Q = condition(_plain(plain))
    if (read is not None or plain == "null") and read != plain:
        found |= condition(_plain(read))
    return found


def _all(conditions: Any) -> Q:
    together = Q()
    for condition in conditions:
        together &= condition
    return together


def _as_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON.")


def _plain(value: Any) -> Any:
    if isinstance(value, str) and not is_storable(value):
        raise ValueError("No argument contains NUL or an unpaired surrogate.")
    if isinstance(value, (list, dict)):
        raise ValueError(  # noqa: TRY004 - a wish is a text
            "Tasks can be searched by arguments that are numbers, strings, true, false or null."
        )
    if isinstance(value, (int, float)) and not -(2**63) < value < 2**63:
        raise ValueError("A number has at most 18 digits here.")
    return value


class HasValue(Func):
    """Whether a JSON array or object has a plain ``value``: at ``key``, or anywhere on its top level."""

    output_field = BooleanField()
    conditional = True

    def __init__(self, column: str, *, value: Any, key: str | int | None = None) -> None:
        super().__init__(column)
        self.column, self.value, self.key = column, value, key

    @property
    def identity(self) -> Any:
        return (type(self), self.column, repr(self.value), self.key)

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **context: Any) -> Any:
        of, parameters = compiler.compile(self.get_source_expressions()[0])
        if connection.vendor == "postgresql":
            place = "*" if self.key is None else json.dumps(self.key)
            path = f"strict $[{place}]" if self.column == "args" else f"strict $.{place}"
            sql = f"COALESCE(jsonb_path_exists({of}, %s::jsonpath, %s::jsonb, true), false)"
            return sql, (*parameters, f"{path} ? (@ == $v)", json.dumps({"v": self.value}))
        kinds, rest = _SQLITE_TYPES[type(self.value)], [self.value]
        if self.value is None or isinstance(self.value, bool):
            kinds, rest = json.dumps(self.value), []
        names = ", ".join(f"'{kind}'" for kind in kinds.split())
        sql = f"SELECT 1 FROM json_each({of}) WHERE type IN ({names})"  # noqa: S608 - names of ours
        sql += " AND value = %s" if rest else ""
        if self.key is not None:
            sql, rest = f"{sql} AND key = %s", [*rest, self.key]
        return f"EXISTS ({sql})", (*parameters, *rest)


#: SQLite's names for the types of JSON.
_SQLITE_TYPES: dict[type, str] = {str: "text", int: "integer real", float: "integer real", bool: "", type(None): ""}
