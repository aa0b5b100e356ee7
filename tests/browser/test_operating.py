"""Failures behind an order, as its customer and the operator see them, and the operator's actions."""

import re

import pytest
from playwright.sync_api import expect

from tests.processes import wait_until

pytestmark = pytest.mark.processes

CONFIRMATION = "email_app.tasks.send_order_confirmation"


def mail_to(server, name) -> int:
    return sum(f"{name}@" in str(mail["To"]) for mail in server.received)


@pytest.fixture
def customer(visitor, mail_server):
    """A customer who has the welcome mail, so that the next mail is about an order."""
    visitor.name = visitor.register()
    wait_until("the welcome mail is there", lambda: mail_to(mail_server, visitor.name) == 1)
    return visitor


def confirmation(page):
    return page.locator(f"[data-task='{CONFIRMATION}']")


def test_a_mail_server_that_is_busy_is_tried_again_before_the_customers_eyes(customer, page, mail_server):
    mail_server.answers.append("451 busy")
    customer.fill_cart("Paper lantern")
    customer.place_order()

    expect(confirmation(page)).to_contain_text("Retrying")
    expect(confirmation(page)).to_contain_text("This step failed and will be retried automatically.")
    customer.expect_settled_timeline()

    expect(confirmation(page)).to_contain_text("2 attempts")
    assert mail_to(mail_server, customer.name) == 2


def test_a_worker_is_killed_and_the_customer_sees_its_task_tried_again(shop, customer, page, mail_server):
    mail_server.answers.append("stall")
    customer.fill_cart("Beeswax candle")
    customer.place_order()
    expect(confirmation(page)).to_have_attribute("data-status", "running")

    shop.worker.kill()
    assert not shop.worker.is_alive
    shop.worker = shop.start_worker(concurrency=1)

    customer.expect_settled_timeline()
    expect(confirmation(page)).to_have_attribute("data-status", "succeeded")
    expect(confirmation(page)).to_contain_text(re.compile(r"[2-9] attempts"))
    assert mail_to(mail_server, customer.name) == 2


def test_what_is_tried_again_is_a_number_on_the_operators_wall(customer, visit, mail_server):
    mail_server.answers.extend(["451 busy"] * 3)
    customer.fill_cart("Paper lantern")
    customer.place_order()

    operator = visit()
    operator.sign_in("admin")
    operator.page.goto("/operations")

    named = operator.page.locator(f"[data-failing='{CONFIRMATION}']")
    expect(named).to_contain_text("none has succeeded since")
    figure = operator.page.locator(".figures > div", has_text="Retrying")
    expect(figure.locator("dd")).to_have_text(re.compile("^[1-9]"))
    customer.expect_settled_timeline()
    expect(figure.locator("dd")).to_have_text("0")
    expect(named).to_be_hidden()


@pytest.mark.fault("F112")
@pytest.mark.usefixtures("no_dead_letters")
def test_f112_a_customer_reads_what_an_error_means_and_the_staff_what_it_was(customer, page, visit, mail_server):
    mail_server.refused[f"{customer.name}@shop.example"] = "550 no such mailbox"
    customer.fill_cart("Paper lantern")
    order = customer.place_order()

    expect(confirmation(page)).to_contain_text("Our staff are looking into it.")
    words = page.locator("main").inner_text()
    assert not re.search(r"550|Error|_|tasks\.|queue", words), words
    operator = visit()
    operator.sign_in("admin")
    operator.page.goto(f"/orders/{order}")
    expect(confirmation(operator.page)).to_contain_text("550")
    expect(confirmation(operator.page)).to_contain_text(CONFIRMATION)


@pytest.mark.usefixtures("no_dead_letters")
def test_a_dead_letter_is_replayed_by_the_operator_and_the_customer_sees_it_done(customer, page, visit, mail_server):
    address = f"{customer.name}@shop.example"
    mail_server.refused[address] = "550 no such mailbox"
    customer.fill_cart("Wall sconce")
    order = customer.place_order()
    expect(confirmation(page)).to_have_attribute("data-status", "dead")
    expect(page.get_by_text("1 task needs attention")).to_be_visible()

    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.get_by_role("link", name="Operations").click()
    group = wall.locator(f".dead-group[data-task='{CONFIRMATION}']")
    expect(group).to_contain_text("550")
    group.get_by_role("button", name="Show").click()
    expect(group).to_contain_text(f"store.order:{order}")
    del mail_server.refused[address]
    group.get_by_role("button", name="Replay").first.click()
    question = wall.get_by_role("dialog", name="Replay 1 dead letter?")
    expect(question).to_contain_text("under the same id")
    question.get_by_role("button", name="Replay").click()

    expect(wall.get_by_text("1 dead letter replayed.")).to_be_visible()
    expect(group).to_be_hidden()
    customer.expect_settled_timeline()
    expect(confirmation(page)).to_have_attribute("data-status", "succeeded")
    assert mail_to(mail_server, customer.name) == 2


@pytest.mark.usefixtures("no_dead_letters")
def test_a_dead_letter_is_discarded_with_a_reason(customer, page, visit, mail_server):
    mail_server.refused[f"{customer.name}@shop.example"] = "550 no such mailbox"
    customer.fill_cart("Box of matches")
    customer.place_order()
    expect(confirmation(page)).to_have_attribute("data-status", "dead")

    operator = visit()
    operator.sign_in("admin")
    operator.page.goto("/operations")
    group = operator.page.locator(".dead-group")
    group.get_by_role("button", name="Discard").click()
    question = operator.page.get_by_role("dialog", name="Discard 1 dead letter?")
    expect(question.get_by_role("button", name="Discard")).to_be_disabled()
    question.get_by_label("Reason").fill("told by telephone")
    question.get_by_role("button", name="Discard").click()

    expect(operator.page.get_by_text("1 dead letter discarded.")).to_be_visible()
    expect(confirmation(page)).to_have_attribute("data-status", "cancelled")
    expect(confirmation(page)).not_to_contain_text("told by telephone")
    operator.page.goto(page.url)
    expect(confirmation(operator.page)).to_contain_text("told by telephone")


@pytest.mark.usefixtures("no_dead_letters")
def test_tasks_are_found_by_an_argument_counted_and_replayed_together(customer, page, visit, mail_server):
    address = f"{customer.name}@shop.example"
    mail_server.refused[address] = "550 no such mailbox"
    customer.fill_cart("Tin robot")
    order = customer.place_order()
    expect(confirmation(page)).to_have_attribute("data-status", "dead")
    del mail_server.refused[address]

    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations/tasks?status=dead")
    wall.get_by_label("Search").fill(f"#{order}")
    wall.keyboard.press("Enter")
    expect(wall).to_have_url(re.compile(rf"status=dead&q=%23{order}$"))
    expect(wall.get_by_text("1 task.")).to_be_visible()
    wall.get_by_role("button", name="Replay all found").click()
    question = wall.get_by_role("dialog", name="Replay these tasks?")
    expect(question.get_by_role("status")).to_contain_text("1 task.")
    question.get_by_role("button", name="Replay").click()

    expect(wall.get_by_text("1 task replayed.")).to_be_visible()
    customer.expect_settled_timeline()
    expect(confirmation(page)).to_have_attribute("data-status", "succeeded")


@pytest.fixture
def resumed(shop):
    """Leave no queue paused to the next test."""
    yield
    shop.run_command("outbox", "resume", "email")


@pytest.mark.usefixtures("resumed")
def test_a_queue_is_paused_and_resumed_and_what_waited_goes(customer, page, visit):
    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations")
    row = wall.locator("tr[data-queue=email]")
    row.get_by_role("button", name="Pause email").click()
    wall.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("Paused")
    wall.wait_for_timeout(3_000)  # The relay heeds it within a second, and says nothing of it.

    customer.fill_cart("Spinning top")
    customer.place_order()
    expect(page.locator("[data-task][data-status=succeeded]")).to_have_count(4)
    expect(confirmation(page)).to_contain_text("Waiting")
    expect(row.locator("td").first).to_have_text("1")
    row.get_by_role("button", name="Resume email").click()
    question = wall.get_by_role("dialog", name="Resume email?")
    expect(question).to_contain_text("1 waiting task will be sent to the workers")
    question.get_by_role("button", name="Resume").click()

    expect(wall.get_by_text("email is resumed.")).to_be_visible()
    customer.expect_settled_timeline()


def test_figures_of_a_task_are_shown_over_six_hours_with_what_was_marked(client, customer, visit):
    signed_in = client.post("/api/token/", json={"username": "admin", "password": "shopwire-admin"})
    client.headers["Authorization"] = f"Bearer {signed_in.json()['access']}"
    # What was done before the first figures were written down is in none of them.
    wait_until("a relay has written figures down", lambda: client.get("/api/ops/figures/").json()["since"], seconds=90)
    customer.fill_cart("Wall sconce")
    customer.place_order()
    customer.expect_settled_timeline()
    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations")
    line = wall.locator(f"[data-figures='{CONFIRMATION}']")
    expect(line).to_be_visible()
    wall.get_by_role("button", name="6 hours").focus()
    wall.keyboard.press("Enter")
    expect(wall.get_by_role("img", name=re.compile("over the last 6 hours")).first).to_be_visible()
    line.get_by_role("button").click()
    expect(wall.get_by_text(f"The charts show {CONFIRMATION}.")).to_be_visible()
    wall.get_by_text("Releases and changes of queues").click()
    expect(wall.get_by_role("listitem").filter(has_text="Release 0.1.0")).to_be_visible()


def test_a_schedule_is_run_now_and_paused(visit):
    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations/schedules")
    card = wall.locator("[data-schedule]").first
    card.get_by_role("button", name="Run now").click()
    wall.get_by_role("dialog").get_by_role("button", name="Run now").click()
    expect(card.get_by_role("link", name=re.compile("took")).first).to_be_visible()
    card.get_by_role("button", name="Pause").click()
    wall.get_by_role("dialog").get_by_role("button", name="Pause").click()
    paused = wall.locator("[data-schedule]", has_text="Paused")
    expect(paused).to_have_count(1)
    paused.get_by_role("button", name="Resume").click()
    wall.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(paused).to_have_count(0)


def test_a_task_is_limited_and_its_limit_removed_by_keyboard(visit):
    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations/limits")
    expect(wall.get_by_role("heading", name="Set a limit")).to_be_visible()
    wall.get_by_role("radio", name="Task").check()
    wall.get_by_label("Task name").fill("email_app.tasks.send_welcome")
    wall.get_by_label("Rate").fill("often")
    wall.keyboard.press("Enter")
    operator.expect_complaints("400")
    expect(wall.get_by_text("A rate is a number of tasks a second")).to_be_visible()
    wall.get_by_label("Rate").fill("10/m")
    wall.keyboard.press("Enter")
    card = wall.locator("[data-limit='email_app.tasks.send_welcome']")
    expect(card).to_contain_text("10/m · set by an operator")
    expect(card).to_contain_text("0 tasks")

    card.get_by_role("button", name="Remove limit").focus()
    wall.keyboard.press("Enter")
    wall.get_by_role("dialog").get_by_role("button", name="Remove limit").click()
    expect(card).to_have_count(0)


def test_a_worker_is_drained_and_resumed_by_keyboard(visit):
    operator = visit()
    operator.sign_in("admin")
    wall = operator.page
    wall.goto("/operations/workers")
    card = wall.locator("[data-process^=worker]")
    expect(card).to_contain_text("OK")
    card.get_by_role("button", name="Drain").focus()
    wall.keyboard.press("Enter")
    question = wall.get_by_role("dialog", name=re.compile("^Drain worker"))
    question.get_by_role("button", name="Drain").focus()
    wall.keyboard.press("Enter")
    expect(card).to_contain_text("Drained")

    card.get_by_role("button", name="Resume").click()
    wall.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(card).to_contain_text("OK")


def test_the_wall_is_for_staff(visitor, page):
    visitor.register()
    expect(page.get_by_role("link", name="Operations")).to_be_hidden()
    page.goto("/operations")

    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
