"""
The canvas of a task as a graph: its calls, their order, and what each waits for.

It is put together from the rows of a canvas, the steps of its chains and its chords. A call that follows is drawn
before it is made, under the id that its caller was given. However large a canvas is, only a bounded part of it is read,
and calls in the same place are drawn as one; see :mod:`celery_ledger.desk.folding`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final
from uuid import UUID, uuid5

from django.db.models import Case, Count, IntegerField, Value, When

from celery_ledger.desk import folding
from celery_ledger.desk.folding import Call, Edge, Node, State
from celery_ledger.ids import row_id
from celery_ledger.models import Chord, DurableTask, Part, Step
from celery_ledger.rows import canvases, stamps, steps
from celery_ledger.rows.steps import Place

Status = DurableTask.Status
#: The most rows and chords that are read; those that may need a decision come first.
MOST_ROWS: Final = 3_000
MOST_CHORDS: Final = 1_000
#: How many chains' steps are read, and how many steps of each on both sides of its current one.
MOST_CHAINS: Final = 300
WINDOW: Final = 12


@dataclass(frozen=True)
class Graph:
    """A canvas. ``counts`` cover all of it, drawn or not, and calls not made yet as far as they are known."""

    id: UUID
    counts: dict[str, int]
    nodes: list[Node]
    edges: list[Edge]
    #: Whether every known call is drawn.
    is_whole: bool

    @property
    def total(self) -> int:
        """The number of calls."""
        return sum(self.counts.values())

    @property
    def is_ended(self) -> bool:
        """Whether nothing changes any more unless an operator acts."""
        return not any(self.counts.get(state) for state in (*folding.UNDER_WAY, State.WAITING))

    @property
    def in_words(self) -> str:
        """A summary in a sentence or two."""
        return " ".join([f"{self.total} tasks: {folding.counted(self.counts)}.", *map(_held_up, self.holding)])

    @property
    def holding(self) -> list[Node]:
        """Waiting parts that depend on a dead letter."""
        return [node for node in self.nodes if node.counts.get(State.DEAD)]


def _held_up(node: Node) -> str:
    dead = node.counts[State.DEAD]
    return f"{node.name} holds it up: {dead} dead." if dead > 1 else f"{node.name} holds it up: it is dead."


def canvas_of(task: UUID) -> UUID | None:
    """Return the canvas of a task; None: it has none, or the task does not exist."""
    return DurableTask.objects.filter(id=task).values_list("canvas", flat=True).first()


def is_known(canvas: UUID) -> bool:
    """Whether the ledger has anything of this canvas."""
    return any(kept.objects.filter(canvas=canvas).exists() for kept in (DurableTask, Chord))


def graph_of(canvas: UUID) -> Graph | None:
    """Return a canvas as a graph; None: nothing of it is left."""
    rows = DurableTask.objects.filter(canvas=canvas)
    urgency = Case(
        When(status=Status.DEAD, then=Value(0)),
        When(status__in=(Status.RUNNING, Status.PUBLISHED), then=Value(1)),
        When(status=Status.PENDING, then=Value(2)),
        default=Value(3),
        output_field=IntegerField(),
    )
    columns = ("id", "name", "status", "options", "last_error")
    found = list(rows.values_list(*columns).order_by(urgency, "-id")[: MOST_ROWS + 1])
    chords = list(Chord.objects.filter(canvas=canvas).order_by("id")[: MOST_CHORDS + 1])
    if not found and not chords:
        return None
    drawing = _Drawing(canvas, found[:MOST_ROWS], chords[:MOST_CHORDS])
    counts = Counter(drawing.counts())
    if is_cut := len(found) > MOST_ROWS:
        told = dict(rows.order_by().values_list("status").annotate(Count("id")))
        counts = Counter({**told, **{state: counts[state] for state in folding.UNCALLED if counts[state]}})
    nodes, edges = folding.fold(drawing.calls, drawing.following)
    is_whole = not is_cut and len(chords) <= MOST_CHORDS and not drawing.is_cut
    return Graph(canvas, {state: number for state, number in counts.items() if number}, nodes, edges, is_whole)


@dataclass
class _Ends:
    """The first and last calls of a signature."""

    first: list[UUID] = field(default_factory=list)
    last: list[UUID] = field(default_factory=list)


class _Drawing:
    """The calls of a canvas and their successors, as far as they are read."""

    def __init__(self, canvas: UUID, rows: Sequence[tuple[Any, ...]], chords: Sequence[Chord]) -> None:
        self.canvas = canvas
        self.is_cut = False
        self.calls: dict[UUID, Call] = {}
        self.following: dict[UUID, set[UUID]] = defaultdict(set)
        self._members: dict[UUID, set[UUID]] = defaultdict(set)
        self._rests: list[tuple[UUID, list[Place]]] = []
        self._unnamed = 0
        parents: dict[UUID, UUID] = {}
        for id, name, status, options, error in rows:
            self.calls[id] = Call(id, name, State(status), error=error)
            self._place(id, canvases.of(options))
            if parent := (options or {}).get("parent_id"):
                parents[id] = row_id(parent)
        bodies = [(chord, self._walk(json.loads(chord.body))) for chord in chords]
        self._draw_chains()
        for chord, body in bodies:
            self._join(chord, body)
        called = {id for ids in self.following.values() for id in ids}
        for id, parent in parents.items():
            if parent in self.calls and id in self.calls and id not in called:
                self.following[parent].add(id)
        self._say_what_waits()

    @cached_property
    def is_revoked(self) -> bool:
        """Whether the canvas was cancelled: no further calls are made unless one of its dead letters is replayed."""
        return bool(stamps.revoked_canvases([self.canvas]))

    def counts(self) -> dict[str, int]:
        """The number of calls in each state."""
        counts: Counter[str] = Counter()
        for call in self.calls.values():
            counts[call.state] += call.count
        return counts

    # --- What follows from what ---

    def _place(self, id: UUID, said: Mapping[str, Any]) -> None:
        """Record the position that a row or a signature gives."""
        if rest := _places_of(said.get("chain")):
            self._rests.append((id, rest))
        if said.get("chord") and said.get("group_id"):
            self._members[row_id(said["group_id"])].add(id)

    def _walk(self, signature: Mapping[str, Any]) -> _Ends:
        """Draw the calls of a signature, and return its first and last calls."""
        kind, kwargs = signature.get("subtask_type"), signature.get("kwargs", {})
        if kind == "chain":
            return self._one_by_one(self._walk(inner) for inner in kwargs.get("tasks", ()))
        if kind == "group":
            return self._beside(kwargs.get("tasks", ()))
        if kind == "chord":
            header = kwargs.get("header") or ()
            members = header.get("kwargs", {}).get("tasks", ()) if isinstance(header, Mapping) else header
            return self._one_by_one([self._beside(members), self._walk(kwargs.get("body") or {})])
        options = signature.get("options", {})
        id = row_id(options["task_id"]) if options.get("task_id") else self._new_id()
        if id not in self.calls:
            self.calls[id] = Call(id, signature.get("task", ""), State.WAITING)
        self._place(id, options)
        ends = _Ends([id], [id])
        rest = options.get("chain")
        if isinstance(rest, list) and rest and isinstance(rest[0], Mapping):
            ends = self._one_by_one([ends, *(self._walk(inner) for inner in reversed(rest))])
        return ends

    def _beside(self, signatures: Iterable[Mapping[str, Any]]) -> _Ends:
        ends = _Ends()
        for inner in map(self._walk, signatures):
            ends.first += inner.first
            ends.last += inner.last
        return ends

    def _one_by_one(self, parts: Iterable[_Ends]) -> _Ends:
        whole = _Ends()
        for part in parts:
            if not part.first:
                continue
            self._follow(whole.last, part.first)
            whole = _Ends(whole.first or part.first, part.last)
        return whole

    def _follow(self, before: Iterable[UUID], after: Iterable[UUID]) -> None:
        after = list(after)
        for id in before:
            self.following[id].update(each for each in after if each != id)

    def _new_id(self) -> UUID:
        self._unnamed += 1
        return uuid5(self.canvas, str(self._unnamed))

    # --- Chains ---

    def _draw_chains(self) -> None:
        """Draw the steps of chains near their current position, and the rest of each as one node."""
        stands: dict[UUID, int] = {}
        for _, rest in self._rests:
            for chain, left in rest:
                stands[chain] = min(left, stands.get(chain, left))
        self.is_cut |= len(stands) > MOST_CHAINS
        chains = list(stands)[:MOST_CHAINS]
        sizes = dict(Step.objects.filter(chain__in=chains).order_by().values_list("chain").annotate(Count("place")))
        near = {
            chain: range(max(0, stands[chain] - WINDOW), min(size, stands[chain] + WINDOW))
            for chain, size in sizes.items()
        }
        signatures = steps.texts((chain, place) for chain, places in near.items() for place in places)
        ends: dict[Place, _Ends] = {}
        whole: dict[UUID, _Ends] = {}
        for chain, places in near.items():
            parts = []
            for place in reversed(places):
                if (chain, place) in signatures:
                    ends[chain, place] = self._walk(json.loads(signatures[chain, place]))
                    parts.append(ends[chain, place])
            if earlier := sizes[chain] - places.stop:
                self._forget_between(chain, places.stop - 1, sizes[chain])
                parts.insert(0, self._many(earlier, State.SUCCEEDED))
            if places.start:
                parts.append(self._many(places.start, State.WAITING))
            whole[chain] = self._one_by_one(parts)
        self._join_chains(ends, whole)

    def _join_chains(self, ends: Mapping[Place, _Ends], whole: Mapping[UUID, _Ends]) -> None:
        """Connect the rest of a chain to the call that refers to it, and an outer chain to the one within it."""
        nothing = _Ends()
        for id, rest in self._rests:
            chain, left = rest[-1]
            if id in self.calls:
                self._follow([id], ends.get((chain, left - 1), whole.get(chain, nothing)).first)
            for (outer, outer_left), (inner, _) in pairwise(rest):
                after = ends.get((outer, outer_left - 1), whole.get(outer, nothing))
                self._follow(whole.get(inner, nothing).last, after.first)

    def _forget_between(self, chain: UUID, low: int, high: int) -> None:
        """Drop the rows of steps that are drawn as a single node."""
        for id, rest in self._rests:
            of, left = rest[-1]
            if of == chain and low < left < high and self.calls[id].state == State.SUCCEEDED:
                del self.calls[id]

    def _many(self, count: int, state: State) -> _Ends:
        """Draw calls that are not read individually."""
        id = self._new_id()
        self.calls[id] = Call(id, "", state, count=count)
        return _Ends([id], [id])

    # --- Chords ---

    def _join(self, chord: Chord, body: _Ends) -> None:
        """Connect a body to its members, including members that are not read or not durable."""
        members = self._members[chord.id]
        done = sum(self.calls[id].state == State.SUCCEEDED for id in members)
        uncalled = [id for id in members if self.calls[id].state == State.WAITING]
        for id in Part.objects.filter(chord=chord.id, task__in=uncalled).values_list("task", flat=True):
            self.calls[id].state = State.SUCCEEDED  # It is not durable, and has no row.
            done += 1
        others, others_done = chord.size - len(members), chord.size - chord.missing - done
        names = Counter(self.calls[id].name for id in members)
        name = names.most_common(1)[0][0] if names else ""
        for state, count in ((State.SUCCEEDED, others_done), (State.UNKNOWN, others - others_done)):
            if count > 0:
                id = self._new_id()
                self.calls[id] = Call(id, name, state, count=count)
                members.add(id)
        self._follow(members, body.first)

    # --- What waits ---

    def _say_what_waits(self) -> None:
        """Determine, from the states of its predecessors, whether each pending call will be made."""
        order = folding.in_order(self.calls, self.following)
        rows = {id for id, call in self.calls.items() if call.state not in folding.UNCALLED}
        led_to: set[UUID] = set()
        for id in reversed(order):
            if any(each in rows or each in led_to for each in self.following.get(id, ())):
                led_to.add(id)
        before: dict[UUID, list[Call]] = defaultdict(list)
        for id in order:
            call = self.calls[id]
            if call.state == State.WAITING:
                if id in led_to and not before[id]:
                    call.state = State.SUCCEEDED  # Pruned, or not durable; but what follows it exists.
                elif id in led_to and all(each.state == State.SUCCEEDED for each in before[id]):
                    call.state = State.SUCCEEDED
                else:
                    call.state = _state_after(before[id])
                if call.state == State.WAITING and self.is_revoked:
                    call.state = State.NEVER
            for each in self.following.get(id, ()):
                before[each].append(call)


def _state_after(before: Iterable[Call]) -> State:
    states = {call.state for call in before}
    if states & {State.CANCELLED, State.NEVER}:
        return State.NEVER
    return State.HELD if states & {State.DEAD, State.HELD} else State.WAITING


def _places_of(rest: Any) -> list[Place]:
    """Return the keys under which the rest of a chain is stored, according to a row or a signature."""
    if isinstance(rest, Mapping):
        rest = rest.get("__value__")
    if not isinstance(rest, list) or not all(isinstance(part, list) and len(part) == 2 for part in rest):
        return []
    return [(UUID(chain), int(left)) for chain, left in rest if left]
