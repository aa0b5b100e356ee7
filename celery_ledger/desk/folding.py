"""
Graphs of calls, made readable: calls in the same position become one node, with counts.

Two calls are in the same place if they call the same task, and what precedes and follows them is alike. In a long
sequence of nodes, neighbours that have all succeeded or are all waiting become one node as well.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

#: Up to this many calls in one place are drawn one by one.
MOST_SINGLE: Final = 4
#: Up to this many nodes in sequence are drawn one by one if nothing happens in them.
MOST_IN_A_ROW: Final = 3
#: How many calls of a node are named, dead ones first; and how many of the calls that a node waits for.
MOST_NAMED: Final = 20
MOST_AWAITED: Final = 5


class State(StrEnum):
    """The state of a call: its row's status or, before it has a row, its prospects."""

    DEAD = "dead"
    RUNNING = "running"
    PUBLISHED = "published"
    PENDING = "pending"
    #: Called when what it waits for has succeeded.
    WAITING = "waiting"
    #: Waits for a dead letter: called if that is replayed and succeeds.
    HELD = "held"
    #: What it waits for was cancelled.
    NEVER = "never"
    #: Exists and has not ended; not read, or not durable.
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"


#: Rows that have not ended.
UNDER_WAY: Final = (State.RUNNING, State.PUBLISHED, State.PENDING, State.UNKNOWN)
#: Calls without a row.
UNCALLED: Final = (State.WAITING, State.HELD, State.NEVER, State.UNKNOWN)
URGENCY: Final = {state: place for place, state in enumerate(State)}
WORDS: Final = {
    State.SUCCEEDED: "done",
    State.HELD: "held up",
    State.NEVER: "never called",
    State.UNKNOWN: "under way",
    State.PUBLISHED: "sent",
}


@dataclass
class Call:
    """A call, or ``count`` calls that were not read individually."""

    id: UUID
    name: str
    state: State
    error: str = ""
    count: int = 1


@dataclass(frozen=True)
class Named:
    """One of a node's calls. ``has_row``: whether a task with that id exists."""

    id: UUID
    name: str
    state: str
    error: str
    has_row: bool


@dataclass
class Node:
    """Calls in the same position. ``name`` is empty if they are of several tasks."""

    key: int
    name: str
    counts: dict[str, int]
    calls: list[Named]
    #: Where it is drawn: column and row, counted from the left and from the top.
    column: int = 0
    row: int = 0
    #: Whether its calls come one after the other, and not side by side.
    is_row: bool = False
    #: What has to succeed before it is called: how many calls, and some of them, dead ones first.
    awaited: int = 0
    awaits: list[Named] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of calls that it stands for."""
        return sum(self.counts.values())

    @property
    def state(self) -> State:
        """The most important state of its calls."""
        return min((State(state) for state in self.counts), key=URGENCY.__getitem__)

    @property
    def title(self) -> str:
        """The heading of the node: the last part of its task's name."""
        return self.name.rpartition(".")[2] or ("steps of a chain" if self.is_row else "several tasks")

    @property
    def in_words(self) -> str:
        """A description for screen readers."""
        waits = ""
        if self.awaited:
            waits = f" It waits for {self.awaited} task{'' if self.awaited == 1 else 's'}."
        if self.count == 1:
            return f"{self.title}: {worded(next(iter(self.counts)))}.{waits}"
        kind = f"{self.count} steps" if self.is_row else f"{self.count} tasks"
        return f"{self.title}, {kind}: {counted(self.counts)}.{waits}"


@dataclass(frozen=True)
class Edge:
    """A dependency between two nodes."""

    before: int
    after: int


@dataclass(frozen=True)
class _Group:
    """A group of calls that becomes one node."""

    ids: list[UUID]
    is_row: bool = False


def worded(state: str) -> str:
    """Return the name of a state for display."""
    return WORDS.get(State(state), str(state))


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words, the most important first."""
    ordered = sorted(counts.items(), key=lambda item: URGENCY[State(item[0])])
    return ", ".join(f"{number} {worded(state)}" for state, number in ordered if number)


def in_order(calls: Iterable[UUID], following: Mapping[UUID, AbstractSet[UUID]]) -> list[UUID]:
    """Return calls in topological order; calls in a cycle come last."""
    waiting = dict.fromkeys(calls, 0)
    for after in following.values():
        for id in after:
            waiting[id] += 1
    ready = [id for id, number in waiting.items() if not number]
    order = []
    while ready:
        id = ready.pop()
        order.append(id)
        for each in following.get(id, ()):
            waiting[each] -= 1
            if not waiting[each]:
                ready.append(each)
    seen = set(order)
    return order + [id for id in waiting if id not in seen]


def fold(calls: Mapping[UUID, Call], following: Mapping[UUID, AbstractSet[UUID]]) -> tuple[list[Node], list[Edge]]:
    """Return the nodes and edges with which these calls are drawn."""
    groups = _places(calls, following)
    groups = _shortened(calls, following, groups)
    place = {id: key for key, group in enumerate(groups) for id in group.ids}
    nodes = [_node(key, [calls[id] for id in group.ids], group.is_row) for key, group in enumerate(groups)]
    pairs = {(place[id], place[each]) for id, after in following.items() for each in after if place[id] != place[each]}
    edges = [Edge(*pair) for pair in sorted(pairs)]
    _say_what_is_awaited(nodes, edges, groups, calls)
    _lay_out(nodes, edges)
    return sorted(nodes, key=lambda node: (node.column, node.row)), edges


def _places(calls: Mapping[UUID, Call], following: Mapping[UUID, AbstractSet[UUID]]) -> list[_Group]:
    """Return calls by position."""
    order = in_order(calls, following)
    before: dict[UUID, set[UUID]] = defaultdict(set)
    for id, after in following.items():
        for each in after:
            before[each].add(id)
    known: dict[tuple[str, tuple[int, ...]], int] = {}

    def marks(ids: Iterable[UUID], others: Mapping[UUID, AbstractSet[UUID]]) -> dict[UUID, int]:
        found: dict[UUID, int] = {}
        for id in ids:
            like = calls[id].name, tuple(sorted({found.get(each, -1) for each in others.get(id, ())}))
            found[id] = known.setdefault(like, len(known))
        return found

    ahead, behind = marks(reversed(order), following), marks(order, before)
    alike: dict[tuple[int, int], list[UUID]] = defaultdict(list)
    for id in order:
        alike[ahead[id], behind[id]].append(id)
    groups: list[_Group] = []
    for ids in alike.values():
        if sum(calls[id].count for id in ids) > MOST_SINGLE:
            groups.append(_Group(ids))
        else:
            groups += [_Group([id]) for id in ids]
    return groups


def _shortened(
    calls: Mapping[UUID, Call], following: Mapping[UUID, AbstractSet[UUID]], groups: Sequence[_Group]
) -> list[_Group]:
    """Merge each long run of groups without activity into one group."""
    result: list[_Group] = []
    for row in _rows(calls, following, groups):
        inner = [groups[key] for key in row[1:-1]]  # Its ends say what it begins and ends with.
        ids = [id for group in inner for id in group.ids]
        if len(inner) <= MOST_IN_A_ROW and all(calls[id].count == 1 for id in ids):
            result += [groups[key] for key in row]
        else:
            is_row = all(len(group.ids) == 1 for group in inner)
            result += [groups[row[0]], _Group(ids, is_row), groups[row[-1]]]
    return result


def _rows(
    calls: Mapping[UUID, Call], following: Mapping[UUID, AbstractSet[UUID]], groups: Sequence[_Group]
) -> list[list[int]]:
    """Return the groups in runs of consecutive groups without activity."""
    place = {id: key for key, group in enumerate(groups) for id in group.ids}
    after: dict[int, set[int]] = defaultdict(set)
    before: dict[int, set[int]] = defaultdict(set)
    for id, ids in following.items():
        for each in ids:
            after[place[id]].add(place[each])
            before[place[each]].add(place[id])

    def state_of(key: int) -> State | None:
        states = {calls[id].state for id in groups[key].ids}
        return next(iter(states)) if len(states) == 1 and states <= QUIET else None

    next_one: dict[int, int] = {}
    for key in range(len(groups)):
        (only, *others) = after[key] or {key}
        if only != key and not others and len(before[only]) == 1 and state_of(key) and state_of(key) == state_of(only):
            next_one[key] = only
    rows = []
    for key in sorted(set(range(len(groups))) - set(next_one.values())):
        row = [key]
        while row[-1] in next_one:
            row.append(next_one[row[-1]])
        rows.append(row)
    return rows


#: States in which a sequence of nodes may be drawn as one.
QUIET: Final = frozenset((State.SUCCEEDED, State.WAITING, State.HELD, State.NEVER))


def _node(key: int, calls: Sequence[Call], is_row: bool) -> Node:
    counts: Counter[str] = Counter()
    for call in calls:
        counts[call.state] += call.count
    names = {call.name for call in calls if call.name}
    name = names.pop() if len(names) == 1 else ""
    is_row = is_row or not all(call.name for call in calls)
    return Node(key, name, dict(counts), [_named(call) for call in _urgent(calls, MOST_NAMED)], is_row=is_row)


def _urgent(calls: Iterable[Call], most: int) -> list[Call]:
    single = [call for call in calls if call.count == 1]
    return sorted(single, key=lambda call: (URGENCY[call.state], call.id))[:most]


def _named(call: Call) -> Named:
    return Named(call.id, call.name, str(call.state), call.error, call.state not in UNCALLED)


def _say_what_is_awaited(
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    groups: Sequence[_Group],
    calls: Mapping[UUID, Call],
) -> None:
    for edge in edges:
        node = nodes[edge.after]
        if node.state not in (State.WAITING, State.HELD, State.NEVER):
            continue
        open_ = [calls[id] for id in groups[edge.before].ids if calls[id].state != State.SUCCEEDED]
        node.awaited += sum(call.count for call in open_)
        node.awaits = (node.awaits + [_named(call) for call in _urgent(open_, MOST_AWAITED)])[:MOST_AWAITED]


def _lay_out(nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
    """Place each node in a column after its predecessors, and in a row close to theirs."""
    after: dict[int, set[int]] = defaultdict(set)
    before: dict[int, list[int]] = defaultdict(list)
    waiting = dict.fromkeys(range(len(nodes)), 0)
    for edge in edges:
        after[edge.before].add(edge.after)
        before[edge.after].append(edge.before)
        waiting[edge.after] += 1
    ready = [key for key, number in waiting.items() if not number]
    while ready:
        key = ready.pop()
        for each in after[key]:
            nodes[each].column = max(nodes[each].column, nodes[key].column + 1)
            waiting[each] -= 1
            if not waiting[each]:
                ready.append(each)
    columns: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        columns[node.column].append(node)

    def height(node: Node) -> tuple[float, int, int]:
        rows = [nodes[key].row for key in before[node.key]]
        return (sum(rows) / len(rows) if rows else 0.0, URGENCY[node.state], node.key)

    for column in sorted(columns):
        for row, node in enumerate(sorted(columns[column], key=height)):
            node.row = row
