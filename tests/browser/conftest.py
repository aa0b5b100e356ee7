"""
A real Chromium before the real shop: web process, relay and worker, started once for all browser tests.

They run by themselves, with ``python3 run.py test -n 0 tests/browser``: Playwright keeps an event loop in the thread
of the tests, in which Django speaks to no database. Without a Chromium they are skipped; the environment variable
CHROMIUM may name one. A test fails on an error in the browser's console, unless it announced that it would cause some.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.visitor import Visitor
from tests.mail_server import MailServer
from tests.processes import Machine

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Milliseconds that a page may take to show what is expected; machines that run tests are busy.
PATIENCE = 20_000


def pytest_collection_modifyitems(items):
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    reason = ""
    if len(ours) < len(items):
        reason = "browser tests run by themselves: python3 run.py test -n 0 tests/browser"
    elif not CHROMIUM:
        reason = "no Chromium here: install one, or name it in the environment variable CHROMIUM"
    for item in ours:
        item.add_marker(pytest.mark.browser)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def obedient_mail_server(mail_server):
    """Reset the mail server's instructions between tests."""
    yield
    mail_server.answers.clear()
    mail_server.refused.clear()


@pytest.fixture(scope="session")
def shop(tmp_path_factory, mail_server) -> Iterator[Machine]:
    """The running shop, with the sample catalogue and accounts, on a database of its own."""
    folder = tmp_path_factory.mktemp("shop")
    machine = Machine(folder)
    machine.environment |= {
        "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite3",
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.port}",
        "SMS_URL": f"file://{folder}/sms",
        "LEDGER_RUNNING_LEASE": "2",
        "LEDGER_PUBLISHED_LEASE": "6",
        "TASK_TIME_LIMIT": "6",
        "SECRET_KEY": "for the browser tests only, and long enough for them",
    }
    with machine:
        prepared = machine.run_command("seed_demo", "--migrate")
        assert prepared.returncode == 0, prepared.stderr
        machine.web = machine.start_web()
        machine.start_relay()
        machine.worker = machine.start_worker(concurrency=1)
        yield machine


@pytest.fixture(scope="session")
def address(shop) -> str:
    return f"http://127.0.0.1:{shop.web_port}"


@pytest.fixture(scope="session")
def chromium(shop) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address) -> Iterator:
    """Return a function that opens a browser window for a new visitor, with options of Playwright's contexts."""
    visitors: list[Visitor] = []

    def open_window(**options) -> Visitor:
        context = chromium.new_context(base_url=address, **options)
        context.set_default_timeout(PATIENCE)
        visitor = Visitor(context.new_page())
        visitors.append(visitor)
        return visitor

    yield open_window
    for visitor in visitors:
        visitor.page.context.close()
    for visitor in visitors:
        assert visitor.complaints == [], "the browser's console has errors"


@pytest.fixture
def visitor(visit) -> Visitor:
    return visit()


@pytest.fixture
def page(visitor) -> Page:
    return visitor.page


@pytest.fixture
def no_dead_letters(client):
    """Discard the dead letters that other tests left behind: their order is random."""
    signed_in = client.post("/api/token/", json={"username": "admin", "password": "shopwire-admin"})
    headers = {"Authorization": f"Bearer {signed_in.json()['access']}"}
    discarded = client.post("/api/ops/dead/discard/", json={"all": True, "reason": "left by a test"}, headers=headers)
    assert discarded.is_success, discarded.text


@pytest.fixture
def client(address) -> Iterator[httpx.Client]:
    """A user who talks to the API next to the browser."""
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
