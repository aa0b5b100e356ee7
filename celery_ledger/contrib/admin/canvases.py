"""The canvas of a task as an SVG diagram and as a list, with the action that cancels all of it."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString, mark_safe

from celery_ledger.contrib.admin.pages import is_uuid, page, page_address, reason_in
from celery_ledger.desk import cancelling, graphs
from celery_ledger.desk.folding import Node, State, counted, worded
from celery_ledger.desk.graphs import Graph
from celery_ledger.desk.permissions import CANCEL

#: Size of a node and distance between nodes, in drawing units.
WIDTH: Final = 208
HEIGHT: Final = 56
ACROSS: Final = 48
BELOW: Final = 16
EDGE: Final = 4
#: How many characters fit into a node.
LETTERS: Final = 28

PAGE: Final = "celery_ledger_durabletask_canvas"


def urls(desk: admin.ModelAdmin) -> list[URLPattern]:
    """Return the URLs of a canvas: its page in ``desk`` and, with ``?part=1``, the part that is refreshed."""

    def view(request: HttpRequest, canvas_id: UUID) -> HttpResponse:
        return _view(desk, request, canvas_id)

    return [path("canvas/<uuid:canvas_id>/", desk.admin_site.admin_view(view), name=PAGE)]


def shown(desk: admin.ModelAdmin, canvas: UUID, *, here: UUID | None = None) -> SafeString | str:
    """Return a canvas for a page of ``desk``, where it is kept up to date."""
    graph = graphs.graph_of(canvas)
    if graph is None:
        return "It has been pruned."
    where = reverse(f"admin:{PAGE}", args=[canvas], current_app=desk.admin_site.name)
    return mark_safe(  # noqa: S308 - a template's
        render_to_string(
            "celery_ledger_admin/canvas_live.html", {"where": where, "here": here, **_drawn(desk, graph, here)}
        )
    )


def _view(desk: admin.ModelAdmin, request: HttpRequest, canvas: UUID) -> HttpResponse:
    if not desk.has_view_permission(request):
        raise PermissionDenied
    if request.method == "POST":
        if not request.user.has_perm(CANCEL):
            raise PermissionDenied
        _cancel(desk, request, canvas)
        return HttpResponseRedirect(request.get_full_path())
    graph = graphs.graph_of(canvas)
    if graph is None:
        raise Http404("Canvas not found.")
    here = UUID(request.GET["here"]) if is_uuid(request.GET.get("here", "")) else None
    if request.GET.get("part"):
        return HttpResponse(render_to_string("celery_ledger_admin/canvas_part.html", _drawn(desk, graph, here)))
    context = {
        "title": "Canvas",
        "shown": shown(desk, canvas),
        "may_cancel": request.user.has_perm(CANCEL) and not graph.is_ended,
    }
    return page(desk, request, "canvas.html", context)


def _cancel(desk: admin.ModelAdmin, request: HttpRequest, canvas: UUID) -> None:
    reason = reason_in(request)
    try:
        count = cancelling.cancel_canvas(canvas, reason=reason, terminate="terminate" in request.POST)
    except ValueError as error:
        desk.message_user(request, str(error), messages.ERROR)
        return
    done = f"{count} task{'' if count == 1 else 's'} cancelled."
    desk.message_user(request, done, messages.SUCCESS if count else messages.WARNING)


def _drawn(desk: admin.ModelAdmin, graph: Graph, here: UUID | None) -> dict[str, object]:
    def address(id: UUID) -> str:
        return page_address(desk, "celery_ledger_durabletask_change", id)

    calls = [
        {
            "node": node,
            "calls": [(call, address(call.id) if call.has_row else "", worded(call.state)) for call in node.calls],
            "more": node.count - len(node.calls),
            "awaits": [(call, address(call.id) if call.has_row else "", worded(call.state)) for call in node.awaits],
        }
        for node in graph.nodes
    ]
    return {"graph": graph, "drawing": drawing(graph, address, here), "nodes": calls}


def drawing(graph: Graph, address: Callable[[UUID], str], here: UUID | None = None) -> SafeString:
    """Return a graph as SVG; its nodes link to their task, or to a list of their tasks."""
    nodes = {node.key: node for node in graph.nodes}
    width = max(_left(node) for node in graph.nodes) + WIDTH + EDGE
    height = max(_top(node) for node in graph.nodes) + HEIGHT + EDGE
    label = escape(graph.in_words)
    return mark_safe(  # noqa: S308 - numbers, and text that is escaped
        f'<svg role="group" aria-label="{label}" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"{_ways(graph, nodes)}{''.join(_box(node, address, here) for node in graph.nodes)}</svg>"
    )


def _left(node: Node) -> int:
    return EDGE + node.column * (WIDTH + ACROSS)


def _top(node: Node) -> int:
    return EDGE + node.row * (HEIGHT + BELOW)


def _ways(graph: Graph, nodes: dict[int, Node]) -> str:
    drawn = []
    for edge in graph.edges:
        before, after = nodes[edge.before], nodes[edge.after]
        x, y, far, down = _left(before) + WIDTH, _top(before) + HEIGHT // 2, _left(after), _top(after) + HEIGHT // 2
        half = (x + far) // 2
        drawn.append(f'<path class="canvas-edge" d="M{x} {y} C{half} {y} {half} {down} {far} {down}"/>')
    return f'<g aria-hidden="true">{"".join(drawn)}</g>'


def _box(node: Node, address: Callable[[UUID], str], here: UUID | None) -> str:
    x, y = _left(node), _top(node)
    single = next((call for call in node.calls if call.has_row), None) if node.count == 1 else None
    where = address(single.id) if single else f"#canvas-{node.key}"
    is_here = here is not None and any(call.id == here for call in node.calls)
    title = f"{node.title} ({node.count})" if node.count > 1 and not node.is_row else node.title
    said = f"waits for {node.awaited}" if node.awaited and len(node.counts) == 1 else counted(node.counts)
    if node.count == 1 and not node.awaited:
        said = worded(node.state)
    here_said = ' here" aria-current="true"' if is_here else '"'
    return (
        f'<a href="{escape(where)}" class="canvas-node {node.state}{here_said}>'
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10}" y="{y + 22}" class="canvas-name">{escape(_short(title))}</text>'
        f'<text x="{x + 10}" y="{y + 40}" class="canvas-state">{escape(_short(said))}</text>'
        f"{''.join(_bar(node, x + 10, y + HEIGHT - 9))}</a>"
    )


def _bar(node: Node, x: float, y: int) -> Sequence[str]:
    """Return the share of a node's calls in each state, as lengths, finished calls first."""
    parts = []
    for state in reversed(State):
        if number := node.counts.get(state):
            length = number / node.count * (WIDTH - 20)
            parts.append(
                f'<rect class="canvas-part {state}" x="{x:.1f}" y="{y}" width="{max(2.0, length):.1f}" height="4"/>'
            )
            x += length
    return parts


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"
