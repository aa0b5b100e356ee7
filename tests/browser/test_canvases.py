"""The canvas of a task as an operator sees it: with 3 and with 300 calls, by mouse, keyboard and screen reader."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_looks import look_at

pytestmark = pytest.mark.processes

TASK = "from store.tasks import prune_idempotency_keys as task; from celery import chain, chord; "
TASK += "from celery_ledger.models import DurableTask; "
LATER = "countdown=36000"


def called(shop, canvas):
    """Call a canvas of tasks that wait, and return the id of one of its tasks."""
    code = f"{TASK}{canvas}; print(DurableTask.objects.exclude(canvas=None).latest('created_at').id)"
    said = shop.run_command("shell", "--no-imports", "-c", code)
    assert said.returncode == 0, said.stderr
    return said.stdout.split()[-1]


@pytest.fixture
def wall(visitor):
    visitor.sign_in("admin")
    return visitor.page


def test_a_chain_of_three_is_read_followed_by_keyboard_and_cancelled_whole(shop, wall):
    task = called(shop, f"chain(task.si(), task.si(), task.si()).apply_async({LATER})")
    wall.goto(f"/operations/tasks/{task}")

    nodes = wall.locator(".canvas-node")
    expect(nodes).to_have_count(3)
    expect(nodes.nth(1)).to_have_accessible_name(re.compile("prune_idempotency_keys Waits for 1"))
    look_at(wall, "operations-canvas")
    wall.set_viewport_size({"width": 1280, "height": 860})
    nodes.nth(1).focus()
    wall.keyboard.press("Enter")
    listed = wall.locator(".canvas-list li[id]:focus")
    expect(listed).to_contain_text("Waits for:")
    listed.get_by_role("link").press("Enter")
    expect(wall).to_have_url(re.compile(task))

    wall.get_by_role("button", name="Cancel the whole canvas").click()
    question = wall.get_by_role("dialog")
    question.get_by_label("Reason").fill("called by mistake")
    question.get_by_role("button", name="Cancel the whole canvas").click()
    expect(wall.locator(".canvas-sum")).to_have_text("3 tasks: 2 never called, 1 cancelled.")
    expect(wall.get_by_role("button", name="Cancel the whole canvas")).to_be_hidden()


def test_three_hundred_members_are_a_node_with_a_count_that_changes_before_ones_eyes(shop, wall, client):
    task = called(shop, f"chord(task.si().set({LATER}) for _ in range(300))(task.si())")
    wall.goto(f"/operations/tasks/{task}")

    nodes = wall.locator(".canvas-node")
    expect(nodes).to_have_count(2)
    expect(nodes.first).to_contain_text("300 pending")
    look_at(wall, "operations-canvas-large")
    signed_in = client.post("/api/token/", json={"username": "admin", "password": "shopwire-admin"})
    headers = {"Authorization": f"Bearer {signed_in.json()['access']}"}
    cancelled = client.post(f"/api/ops/tasks/{task}/cancel/", json={"reason": "one of them"}, headers=headers)
    assert cancelled.is_success, cancelled.text

    expect(wall.locator(".canvas-sum")).to_have_text("301 tasks: 299 pending, 1 never called, 1 cancelled.")
    expect(nodes.first).to_contain_text("299 pending, 1 cancel")


def test_the_page_of_an_order_draws_for_staff_what_its_settlement_waits_for(visitor, wall):
    visitor.fill_cart("Enamel saucepan")
    visitor.place_order()
    visitor.expect_settled_timeline()

    nodes = wall.locator(".canvas-node")
    settlement = nodes.filter(has_text="record_settlement")
    expect(settlement).to_have_count(1)
    expect(settlement).to_have_accessible_name(re.compile("record_settlement Done"))
    look_at(wall, "order-canvas", at=wall.locator(".canvas"), pictures=None)
    settlement.press("Enter")
    expect(wall).to_have_url(re.compile("/operations/tasks/"))
    wall.set_viewport_size({"width": 1280, "height": 860})
    wall.goto("/")
    visitor.sign_out()
    visitor.sign_in()
    visitor.fill_cart("Enamel saucepan")
    visitor.place_order()
    visitor.expect_settled_timeline()
    expect(wall.locator(".canvas")).to_have_count(0)


def test_the_admin_draws_it_too(shop, visitor, wall):
    visitor.expect_complaints("favicon")
    task = called(shop, f"chord(task.si().set({LATER}) for _ in range(30))(task.si())")
    wall.goto(f"/admin/celery_ledger/durabletask/{task}/change/")

    expect(wall.locator(".canvas-node")).to_have_count(2)
    wall.locator(".canvas-node").first.focus()
    wall.keyboard.press("Enter")
    expect(wall.locator(".canvas li[id]").first).to_be_visible()
    wall.get_by_role("link", name="The canvas on a page of its own").click()
    wall.get_by_label("Reason").fill("called by mistake")
    wall.get_by_role("button", name="Cancel the whole canvas").click()
    expect(wall.get_by_text("30 tasks cancelled.")).to_be_visible()
    expect(wall.locator(".canvas")).to_contain_text("31 tasks: 1 never called, 30 cancelled.")
