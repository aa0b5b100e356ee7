"""
``run.py`` in a fresh clone of the repository, with real processes.

Each test has a copy of the project with its own ``var/``, so its own database and broker. Only the
virtual environment is this one, lent under another name, for installing takes a minute.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from tests.processes import free_port

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".*_cache", ".git", ".venv", ".env", "var", "__pycache__", "node_modules", "tests")
#: What would lead the copy to a database or broker outside it.
FOREIGN = {
    "WEBHOOKS_TO_LOCALHOST",
    "DATABASE_URL",
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "EMAIL_URL",
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
}
READY = 120  # seconds
STOP = 10  # seconds: what the contract promises

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]


class Copy:
    """A copy of the project, and what runs in it."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = f"SHOPWIRE_TEST_{uuid.uuid4().hex}"
        self.ports = {name: str(free_port()) for name in ("PORT", "FLOWER_PORT", "CATCHER_PORT")}
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED, symlinks=True)
        venv = folder / ".venv"
        venv.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (venv / part).symlink_to(Path(sys.prefix) / part)
        digest = hashlib.sha256((folder / "requirements.txt").read_bytes()).hexdigest()
        (venv / "requirements.txt.sha256").write_text(digest)
        self.started = []

    def run(self, *arguments):
        """Start run.py, and return its process; what it says is in its ``said`` file."""
        said = self.folder.parent / f"said-{len(self.started)}"
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        with said.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(self.folder / "run.py"), *arguments],
                env={**environment, **self.ports, self.mark: "1"},
                cwd=self.folder.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process.said = said
        self.started.append(process)
        return process

    def processes(self):
        """Return the living processes that this copy's run.py began, itself included."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if self.mark in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def pid_of(self, words):
        """Return the oldest process with these words in its command line, or None."""
        return min((pid for pid, command in self.processes().items() if words in command), default=None)

    def variables(self):
        text = (self.folder / "var" / "run.env").read_text()
        return dict(re.findall(r"^(\w+)='(.*)'$", text, re.MULTILINE))

    def status_of(self, path, port="PORT", **headers):
        """Return the HTTP status that the web process, or Flower, answers with; None if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.variables()[port]), timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        return None

    def end(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        until(lambda: not self.processes(), seconds=30, so="The test's own processes do not end.")


@pytest.fixture
def copy(tmp_path):
    made = Copy(tmp_path / "shopwire")
    yield made
    made.end()


def until(condition, seconds, so):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, so() if callable(so) else so
        time.sleep(0.1)
    return value


def wait_for(process, words, seconds=READY):
    def appeared():
        assert process.poll() is None, f"run.py ended with {process.returncode}:\n{process.said.read_text()}"
        return words in process.said.read_text()

    until(appeared, seconds, so=lambda: f"{words!r} was not said in {seconds} s:\n{process.said.read_text()}")


def test_it_starts_answers_mends_itself_and_stops(copy):
    shop = copy.run()
    wait_for(shop, "Ready in")
    wait_for(shop, "Ctrl-C stops everything")
    assert copy.status_of("/health/live/") == 200
    assert stat.S_IMODE((copy.folder / "var" / "run.env").stat().st_mode) == 0o600

    credentials = base64.b64encode(copy.variables()["FLOWER_BASIC_AUTH"].encode()).decode()
    for path in ("/", "/api/workers"):
        assert copy.status_of(path, port="FLOWER_PORT") == 401
        assert copy.status_of(path, port="FLOWER_PORT", Authorization=f"Basic {credentials}") == 200

    for words in ("celery -A worker worker", "manage.py serve"):
        first = copy.pid_of(words)
        os.kill(first, signal.SIGKILL)
        until(lambda w=words, f=first: copy.pid_of(w) not in {None, f}, 30, so=f"{words} was not started again.")
    wait_for(shop, "web was killed by SIGKILL")
    until(lambda: copy.status_of("/health/live/") == 200, 60, so="The new web process does not answer.")

    second = copy.run()
    assert second.wait(timeout=30) == 1
    assert "is already running" in second.said.read_text()

    demo = copy.run("demo")
    assert demo.wait(timeout=180) == 0, demo.said.read_text()
    assert shop.poll() is None

    def caught():
        connection = http.client.HTTPConnection("127.0.0.1", int(copy.variables()["CATCHER_PORT"]), timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/caught.json")
            return json.loads(connection.getresponse().read())

    until(lambda: len(caught()) >= 2, 30, so="The order's webhooks were not caught.")
    assert all(each["genuine"] for each in caught())

    shop.terminate()
    assert shop.wait(timeout=STOP) == 0
    assert copy.processes() == {}


def test_killed_itself_it_leaves_nothing_behind_and_starts_again(copy):
    shop = copy.run()
    wait_for(shop, "Ready in")
    shop.kill()
    until(lambda: not copy.processes(), STOP, so=lambda: f"Left behind: {copy.processes()}")

    again = copy.run()
    wait_for(again, "Ready in")
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=STOP) == 0


def test_the_demo_shows_every_effect_of_an_order_and_stops_everything(copy):
    demo = copy.run("demo")
    code = demo.wait(timeout=READY + 90)
    said = demo.said.read_text()
    assert code == 0, said
    for task in (
        "email_app.tasks.send_order_confirmation",
        "store.tasks.update_inventory",
        "analytics_app.tasks.record_sale",
    ):
        assert re.search(rf"^{task}\s+succeeded\s+\d+\s+\d+ ms$", said, re.MULTILINE)
    assert copy.processes() == {}


def test_told_to_stop_while_it_starts_it_stops(copy):
    shop = copy.run()
    wait_for(shop, "Preparing the database", seconds=30)
    shop.terminate()
    assert shop.wait(timeout=STOP) == 0
    assert copy.processes() == {}


def test_a_setting_that_cannot_be_read_is_named_and_nothing_is_left_running(copy):
    (copy.folder / ".env").write_text("TASK_TIME_LIMIT=soon\n")
    shop = copy.run()
    assert shop.wait(timeout=60) == 1
    assert "TASK_TIME_LIMIT" in shop.said.read_text()
    assert copy.processes() == {}
