"""A user at a browser: what they do on the pages, and what the browser complains about."""

import itertools
import re
import uuid
from urllib.parse import quote

from playwright.sync_api import ConsoleMessage, Page, expect

PASSWORD = "browsing and long"
_numbers = itertools.count(1)


class Visitor:
    """
    A page in a window of its own.

    ``complaints`` are the errors of its console, but for those that :meth:`expect_complaints` announced.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.password = PASSWORD
        self.complaints: list[str] = []
        self._expected: re.Pattern[str] | None = None
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def expect_complaints(self, pattern: str) -> None:
        """Say that the test causes such errors: an answer that is cut off, a connection that is refused."""
        self._expected = re.compile(pattern)

    def _hear(self, message: ConsoleMessage) -> None:
        words = f"{message.text} ({message.location.get('url', '')})"
        if "ERR_NETWORK_CHANGED" in words:  # An interface of this machine came or went: not the shop's doing.
            return
        if message.type == "error" and not (self._expected and self._expected.search(words)):
            self.complaints.append(words)

    def sign_in(self, username: str = "demo", password: str | None = None) -> None:
        self.page.goto("/sign-in")
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password or f"shopwire-{username}")
        self.page.locator("form").get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def sign_out(self) -> None:
        self.page.locator("header").get_by_role("button", name="Sign out").click()
        expect(self.page.locator("header").get_by_role("link", name="Sign in")).to_be_visible()

    def register(self) -> str:
        """Register as a new user, and return the name."""
        name = f"visitor{next(_numbers)}-{uuid.uuid4().hex[:8]}"
        self.page.goto("/register")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Email").fill(f"{name}@shop.example")
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Register").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()
        return name

    def fill_cart(self, *titles: str) -> None:
        for title in titles:
            self.page.goto(f"/?search={quote(title)}")
            self.page.get_by_role("button", name=f"Add to cart {title}").click()
            expect(self.page.get_by_text(f"{title} was added to your cart.").last).to_be_visible()

    def place_order(self) -> int:
        """Order what is in the cart, and return the order's number."""
        self.page.goto("/cart")
        self.page.get_by_role("button", name="Place order").click()
        self.page.wait_for_url(re.compile(r"/orders/\d+$"))
        return int(self.page.url.rpartition("/")[2])

    def expect_settled_timeline(self) -> None:
        expect(self.page.locator("[data-settled=true]")).to_be_visible()
