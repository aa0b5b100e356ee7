"""The canvas of a task as a graph: finished and waiting calls, what holds it up, and folding into a readable size."""

import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from celery import chain, chord, group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from celery_ledger.desk import cancelling, dead_letters, graphs
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from tests.integration.celery_ledger.test_canvas import Tasks, rows
from tests.integration.operations.test_ops_admin import browser
from tests.shop import api, make_staff

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tasks():
    tasks = Tasks(transactional=True)
    yield tasks
    tasks.forget()


def graph():
    """Return the one canvas that is there."""
    (canvas,) = DurableTask.objects.exclude(canvas=None).values_list("canvas", flat=True).distinct()
    return graphs.graph_of(canvas)


def drawn(graph):
    """Return the graph's nodes by column, and what leads to what, as a person reads it."""
    titles = {node.key: node.title for node in graph.nodes}
    return (
        [(node.title, node.count, str(node.state)) for node in graph.nodes],
        Counter((titles[edge.before], titles[edge.after]) for edge in graph.edges),
    )


def test_of_a_chain_what_is_not_called_yet_is_drawn_behind_what_is(tasks):
    chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.total.si([4]))()
    nodes, edges = drawn(graph())
    assert nodes == [("add", 1, "pending"), ("add", 1, "waiting"), ("total", 1, "waiting")]
    assert edges == {("add", "add"): 1, ("add", "total"): 1}
    assert [len(node.awaits) for node in graph().nodes] == [0, 1, 1]
    assert not graph().is_ended
    drain()
    assert graph().counts == {"succeeded": 3}
    assert graph().is_ended


def test_a_dead_member_holds_up_the_body_and_a_replay_lets_it_go(tasks):
    tasks.failing.add((2, 2))
    chord([tasks.add.s(each, each) for each in range(3)])(tasks.total.s())
    drain()
    nodes, _ = drawn(graph())
    assert sorted(nodes[:3]) == [("add", 1, "dead"), ("add", 1, "succeeded"), ("add", 1, "succeeded")]
    assert nodes[3:] == [("total", 1, "held")]
    body = graph().nodes[3]
    assert (body.awaited, [each.state for each in body.awaits]) == (1, ["dead"])
    assert graph().in_words.endswith("tests.add holds it up: it is dead.")
    tasks.failing.clear()
    dead_letters.replay([body.awaits[0].id])
    drain()
    assert graph().counts == {"succeeded": 4}


def test_what_follows_from_a_cancelled_task_is_never_called(tasks):
    chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()
    cancelling.cancel(rows("tests.add").get().id, reason="a mistake")
    nodes, _ = drawn(graph())
    assert [state for _, _, state in nodes] == ["cancelled", "never", "never"]
    assert graph().is_ended


def test_what_follows_from_a_task_that_ran_while_its_canvas_was_cancelled_is_never_called(tasks):
    chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()
    DurableTask.objects.update(status="running")
    cancelling.cancel_canvas(rows("tests.add").get().id, reason="a mistake")
    nodes, _ = drawn(graph())
    assert [state for _, _, state in nodes] == ["running", "never", "never"]
    DurableTask.objects.update(status="succeeded")
    assert graph().is_ended


def test_three_hundred_members_are_one_node_with_counts_and_the_dead_first(tasks):
    tasks.failing.update({(each, each) for each in (7, 70, 270)})
    chord([tasks.add.s(each, each) for each in range(300)])(tasks.total.s())
    drain()
    with CaptureQueriesContext(connection) as queries:
        found = graph()
    nodes, edges = drawn(found)
    assert nodes == [("add", 300, "dead"), ("total", 1, "held")]
    assert edges == {("add", "total"): 1}
    assert found.nodes[0].counts == {"succeeded": 297, "dead": 3}
    assert [call.state for call in found.nodes[0].calls[:4]] == ["dead"] * 3 + ["succeeded"]
    assert found.nodes[1].awaited == 3
    assert len(queries) <= 6


def test_chains_in_a_chord_are_drawn_once_with_counts_for_each_step(tasks):
    members = [chain(tasks.add.si(each, 1), tasks.total.si([1])) for each in range(50)]
    chain(tasks.add.s(0, 0), group(members), tasks.total.s())()
    nodes, edges = drawn(graph())
    assert [(title, count) for title, count, _ in nodes] == [("add", 1), ("add", 50), ("total", 50), ("total", 1)]
    drain()
    nodes, edges = drawn(graph())
    assert nodes == [
        ("add", 1, "succeeded"),
        ("add", 50, "succeeded"),
        ("total", 50, "succeeded"),
        ("total", 1, "succeeded"),
    ]
    assert sum(edges.values()) == 3


def test_a_long_chain_is_a_few_nodes_and_a_few_statements(tasks):
    tasks.failing.add((41, 1))
    chain(tasks.add.s(1, 1), *[tasks.add.s(1)] * 499)()
    drain()
    with CaptureQueriesContext(connection) as queries:
        found = graph()
    assert found.counts == {"succeeded": 40, "dead": 1, "held": 459}
    assert len(found.nodes) < 10, drawn(found)
    assert len(queries) <= 7


def test_links_hang_on_what_they_are_linked_to(tasks):
    tasks.add.apply_async((1, 2), link=[tasks.add.s(10), tasks.total.si([5])])
    drain()
    _, edges = drawn(graph())
    assert edges == {("add", "add"): 1, ("add", "total"): 1}


def test_of_a_canvas_that_is_too_large_the_rest_is_counted(tasks, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_ROWS", 20)
    tasks.failing.add((3, 3))
    chord([tasks.add.s(each, each) for each in range(60)])(tasks.total.s())
    drain()
    found = graph()
    assert not found.is_whole
    assert found.counts == {"succeeded": 59, "dead": 1, "held": 1}
    assert found.nodes[0].counts == {"succeeded": 59, "dead": 1}


def test_nobody_has_a_canvas_that_is_none(tasks):
    tasks.add.delay(1, 2)
    assert graphs.canvas_of(rows("tests.add").get().id) is None


class TestOnThePages:
    def test_the_api_has_nodes_edges_and_words(self, tasks):
        tasks.failing.add((2, 2))
        chord([tasks.add.s(each, each) for each in range(3)])(tasks.total.s())
        drain()
        task = rows("tests.total").first() or rows("tests.add").first()
        client = api(make_staff())
        canvas = client.get(f"/api/ops/tasks/{task.id}/").json()["task"]["canvas"]
        body = client.get(f"/api/ops/canvases/{canvas}/").json()
        assert body["counts"] == {"succeeded": 2, "dead": 1, "held": 1}
        assert (body["total"], body["is_whole"], body["is_ended"]) == (4, True, True)
        assert "1 dead" in body["text"]
        (total,) = [node for node in body["nodes"] if node["title"] == "total"]
        assert (total["state"], total["awaited"], total["column"]) == ("held", 1, 1)
        assert [edge["after"] for edge in body["edges"]] == [total["key"]] * 3
        assert client.get(f"/api/ops/canvases/{task.id}/").status_code == 404

    def test_all_of_it_is_cancelled_by_one_call_with_a_reason(self, tasks):
        chain(tasks.add.s(1, 2), group(tasks.add.s(each) for each in range(9)), tasks.total.s())()
        canvas = rows("tests.add").get().canvas
        client, address = api(make_staff("cancel_durabletask")), f"/api/ops/canvases/{canvas}/cancel/"
        assert api(make_staff()).post(address, {"reason": "a mistake"}, "json").status_code == 403
        assert client.post(address, {}, "json").status_code == 400
        assert client.post(address, {"reason": "a mistake"}, "json").json() == {"count": 1}
        drain()
        assert graph().counts == {"cancelled": 1, "never": 10}
        nobodys = f"/api/ops/canvases/{rows('tests.add').get().id}/cancel/"
        assert client.post(nobodys, {"reason": "a mistake"}, "json").status_code == 404

    def test_the_admin_draws_it_on_the_tasks_page_and_cancels_it_on_its_own(self, tasks):
        chord([tasks.add.s(each, each) for each in range(30)])(tasks.total.s())
        task = rows("tests.add").first()
        client = browser("view_durabletask", "cancel_durabletask")
        words = client.get(reverse("admin:celery_ledger_durabletask_change", args=[task.id])).content.decode()
        (drawing,) = re.findall(r'<svg role="group".*?</svg>', words, re.DOTALL)
        drawn = ElementTree.fromstring(drawing)
        said = [[text.text for text in each.iter("text")] for each in drawn.iter("a")]
        assert said == [["add (30)", "30 pending"], ["total", "waits for 30"]]
        address = reverse("admin:celery_ledger_durabletask_canvas", args=[task.canvas])
        assert address in words
        assert "<svg" in client.get(f"{address}?part=1").content.decode()
        assert b"Say why" in client.post(address, {"reason": " "}, follow=True).content
        assert b"30 tasks cancelled." in client.post(address, {"reason": "a mistake"}, follow=True).content
        assert graph().counts == {"cancelled": 30, "never": 1}
        assert browser("view_durabletask").post(address, {"reason": "x"}).status_code == 403
        assert client.get(reverse("admin:celery_ledger_durabletask_canvas", args=[task.id])).status_code == 404
