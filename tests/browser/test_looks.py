"""
Every page is accessible on desktop and phone, in light and dark mode.

``SCREENSHOTS=docs/screenshots`` takes the pictures of docs/screenshots again.
"""

import io
import os
import re
from itertools import product
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.processes import ROOT

pytestmark = pytest.mark.processes

AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
LOOKS = (("desktop", "light"), ("phone", "dark"))
PICTURES = os.environ.get("SCREENSHOTS")
LARGEST_PICTURE = 100_000  # bytes


def look_at(page: Page, name: str, *, at: Locator | None = None, pictures: str | None = PICTURES) -> None:
    """
    Check the current page with axe, and take its screenshots, scrolled to ``at``.

    Colours do not depend on the size, nor the layout on the colour scheme, so two checks cover everything.
    """
    for size, scheme in product(SIZES, SCHEMES) if pictures else LOOKS:
        page.set_viewport_size(SIZES[size])
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        if at is not None:
            at.scroll_into_view_if_needed()
        picture = page.screenshot(animations="disabled")  # Axe is to see colours that have been painted.
        if pictures:
            keep(picture, ROOT / pictures / f"{name}-{size}-{scheme}.png")
        assert violations(page) == [], f"{name}, {size}, {scheme}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide for a {size}"


def keep(picture: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < LARGEST_PICTURE, f"{path.name} is too large"


def violations(page: Page) -> list[str]:
    if not AXE.exists():
        pytest.skip("axe-core is not here: run `npm ci` in frontend/")
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def test_the_shop(visitor, page):
    page.goto("/")
    expect(page.get_by_role("button", name="Add to cart Enamel saucepan")).to_be_visible()
    look_at(page, "catalogue")
    page.goto("/?search=nothing+like+this")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    look_at(page, "catalogue-nothing")
    page.goto("/products/1")
    expect(page.get_by_role("heading", name="Enamel saucepan")).to_be_visible()
    look_at(page, "product")
    page.goto("/cart")
    expect(page.get_by_text("Your cart is empty")).to_be_visible()
    look_at(page, "cart-empty")
    visitor.expect_complaints("404")
    page.goto("/products/987654")
    expect(page.get_by_role("heading", name="Page not found")).to_be_visible()
    look_at(page, "not-found")


def test_the_door(page):
    page.goto("/sign-in")
    expect(page.get_by_label("Password")).to_be_visible()
    look_at(page, "sign-in")
    page.goto("/register")
    expect(page.get_by_label("Email")).to_be_visible()
    look_at(page, "register")
    page.goto("/reset-password")
    expect(page.get_by_label("Email")).to_be_visible()
    look_at(page, "reset-password")
    page.goto("/reset-password?token=x")
    expect(page.get_by_label("New password")).to_be_visible()
    look_at(page, "new-password")
    page.goto("/verify-email?token=x")
    expect(page.get_by_role("button", name="Confirm my address")).to_be_visible()
    look_at(page, "verify-email")


def test_an_order(visitor, page):
    visitor.register()
    page.goto("/orders")
    expect(page.get_by_text("No orders yet")).to_be_visible()
    look_at(page, "orders-empty")
    visitor.fill_cart("Enamel saucepan", "Linen tea towel", "Bird feeder")
    page.goto("/cart")
    expect(page.get_by_role("button", name="Place order")).to_be_visible()
    look_at(page, "cart")
    visitor.place_order()
    visitor.expect_settled_timeline()
    look_at(page, "order")
    page.get_by_role("button", name="Cancel order").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    look_at(page, "order-cancel")
    page.goto("/orders")
    expect(page.locator("tbody tr")).to_have_count(1)
    look_at(page, "orders")


def test_what_one_is_told(visitor, page):
    visitor.register()
    page.goto("/notifications")
    expect(page.get_by_text("Nothing new")).to_be_visible()
    look_at(page, "notifications-empty")
    visitor.fill_cart("Brass desk lamp")
    visitor.place_order()
    page.get_by_role("button", name="Cancel order").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel order").click()
    page.goto("/notifications")
    expect(page.locator("li.notification")).to_have_count(2)
    look_at(page, "notifications")


def test_what_people_say(visitor, page, visit):
    ada, bob = visitor, visit()
    names = ada.register(), bob.register()
    page.goto("/messages")
    expect(page.get_by_text("No messages yet")).to_be_visible()
    look_at(page, "messages-empty")
    write(page, names[1], "Is the parcel there?")
    bob.page.goto(f"/messages?with={names[0]}")
    write(bob.page, None, "It came this morning. The lamp is even nicer than in the picture.")
    write(page, None, "I am so glad.")
    expect(page.locator(".bubble", has_text="It came this morning.")).to_be_visible()
    expect(page.locator(".bubble.mine").last).to_contain_text("Read")
    look_at(page, "messages")


def test_an_account(visitor, page):
    visitor.register()
    page.goto("/account")
    page.get_by_label("Use quiet hours every day").check()
    page.get_by_label("Phone number").fill("+44 20 7946 0000")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Code")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    look_at(page, "account")


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("no_dead_letters")
def test_the_operators_wall(visitor, page, mail_server, visit):
    operator = visit()
    operator.sign_in("admin")
    operator.page.goto("/operations")
    expect(operator.page.get_by_text("No dead letters")).to_be_visible()
    look_at(operator.page, "operations-quiet")
    name = visitor.register()
    mail_server.refused[f"{name}@shop.example"] = "550 no such mailbox"
    visitor.fill_cart("Tin robot")
    visitor.place_order()
    expect(page.get_by_text("1 task needs attention")).to_be_visible()
    look_at(page, "order-dead-letter")
    wall = operator.page
    wall.locator(".dead-group").get_by_role("button", name="Show").click()
    expect(wall.locator(".letter")).to_be_visible()
    look_at(wall, "operations-dead-letters", at=wall.locator(".letter"))
    wall.get_by_role("button", name="Discard").first.click()
    expect(wall.get_by_role("dialog")).to_be_visible()
    look_at(wall, "operations-discard")
    wall.goto("/operations/workers")
    expect(wall.locator("[data-process]").first).to_be_visible()
    look_at(wall, "operations-workers")
    wall.goto("/operations/schedules")
    expect(wall.locator("[data-schedule]").first).to_be_visible()
    look_at(wall, "operations-schedules")
    wall.goto("/operations/limits")
    expect(wall.get_by_role("heading", name="Set a limit")).to_be_visible()
    wall.get_by_label("Queue name").fill("email")
    wall.get_by_label("Tasks per second").fill("20")
    wall.keyboard.press("Enter")
    limited = wall.locator("[data-limit=email]")
    expect(limited).to_contain_text("20")
    wall.get_by_label("Queue name").blur()
    look_at(wall, "operations-limits", at=limited)
    limited.get_by_role("button", name="Remove limit").click()
    wall.get_by_role("dialog").get_by_role("button", name="Remove limit").click()
    expect(limited).to_have_count(0)
    wall.goto("/operations/tasks?status=dead")
    expect(wall.locator("tr[data-id]")).to_have_count(1)
    look_at(wall, "operations-tasks")
    wall.get_by_role("link", name=re.compile("send_order_confirmation")).click()
    expect(wall.locator("[data-kind=died]")).to_be_visible()
    look_at(wall, "operations-task")
    wall.get_by_text("Traceback").first.click()
    look_at(wall, "operations-task", pictures=None)  # A traceback names files of this machine.
    if PICTURES:  # They are differences: a relay records the second one after two minutes at the latest.
        wall.goto("/operations")
        figures = wall.locator("[data-figures]").last
        expect(figures).to_be_visible(timeout=150_000)
        look_at(wall, "operations-figures", at=figures)


def test_a_page_without_a_network(visitor, page):
    visitor.register()
    visitor.expect_complaints("ERR_INTERNET_DISCONNECTED|WebSocket")
    page.goto("/orders")
    expect(page.get_by_text("No orders yet")).to_be_visible()
    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    page.get_by_role("link", name="Notifications", exact=True).click()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    look_at(page, "offline")


def write(page: Page, receiver: str | None, words: str) -> None:
    if receiver:
        page.get_by_label("To", exact=True).fill(receiver)
    page.get_by_label("Message", exact=True).fill(words)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".bubble", has_text=words)).to_be_visible()
