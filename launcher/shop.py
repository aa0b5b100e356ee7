"""The shop's processes: how each is started, how its readiness is detected, and all of them together."""

import http.client
import time
from contextlib import closing, suppress
from typing import Final, Self, TextIO

from launcher import configuration, environment
from launcher.console import MovingLine, say
from launcher.places import CATCHER_SECRET, LOGS, PYTHON, VAR
from launcher.supervisor import Program, Supervisor
from launcher.valkey import Valkey

#: Seconds after which an incomplete start is reported as slow; for the demo, as failed.
SLOW_START: Final = 120
#: Accounts that ``manage.py seed_demo`` creates: name, password, purpose.
ACCOUNTS: Final = (
    ("demo", "shopwire-demo", "a customer"),
    ("manager", "shopwire-manager", "staff, in the group managers"),
    ("admin", "shopwire-admin", "superuser"),
)
CELERY: Final = (str(PYTHON), "-m", "celery", "-A", "worker")


class Shop:
    """The one running copy of the shop in this folder; as a context manager, it leaves nothing running."""

    def __init__(self, lock: TextIO) -> None:
        self.supervisor = Supervisor(LOGS, held_open=[lock.fileno()])
        self.values: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        say("Stopping ...")
        started = time.monotonic()
        self.supervisor.stop()
        say(f"Stopped in {time.monotonic() - started:.1f} s.")

    @property
    def port(self) -> int:
        return int(self.values["PORT"])

    @property
    def _has_catcher(self) -> bool:
        return self.values["DEBUG"] == "1"

    @property
    def _catcher_url(self) -> str:
        return f"http://127.0.0.1:{self.values['CATCHER_PORT']}/"

    def start(self) -> bool:
        """Start everything, and return True once all of it answers; False if stopped or the database fails."""
        started = time.monotonic()
        environment.ensure("requirements.txt")
        if not self._start_broker():
            return False
        self.supervisor.start(self._flower())  # It needs no database, and starts slowly.
        if not self._prepare_database():
            return False
        for program in self._programs():
            self.supervisor.start(program)
        line = MovingLine()
        slow = False
        while missing := self.supervisor.unanswered():
            if self.supervisor.stop_asked:
                return False
            waited = time.monotonic() - started
            line.show(f"Waiting for {', '.join(missing)} ... {waited:.0f} s")
            if waited > SLOW_START and not slow:
                slow = True
                say(f"Still waiting for {', '.join(missing)}; see var/log/.")
            self.supervisor.tick()
        line.finish(f"Ready in {time.monotonic() - started:.0f} s.")
        return True

    def introduce(self) -> None:
        """Print the URLs, and the accounts."""
        base = f"http://127.0.0.1:{self.port}"
        say()
        for what, address in (
            ("shop", f"{base}/"),
            ("API", f"{base}/api/docs/"),
            ("admin", f"{base}/admin/"),
            ("Flower", f"http://127.0.0.1:{self.values['FLOWER_PORT']}/ as {self.values['FLOWER_BASIC_AUTH']}"),
            *([("webhooks", f"{self._catcher_url} shows what was sent")] if self._has_catcher else []),
        ):
            say(f"  {what:<10}{address}")
        if self.values["DEBUG"] == "1":
            say()
            for name, password, what in ACCOUNTS:
                say(f"  {name:<9}{password:<18}{what}")
        say("\nLogs are in var/log/. Ctrl-C stops everything.\n")

    def _start_broker(self) -> bool:
        """Use the configured Redis, or start one. False if stopped."""
        named = configuration.given("REDIS_URL")
        broker = configuration.given("CELERY_BROKER_URL")
        if not named and broker.startswith(("redis://", "rediss://")):
            named = broker
        if named:
            self._configure(named)
            return True
        valkey = Valkey(VAR / "valkey")
        self._configure(valkey.url)
        child = self.supervisor.start(Program("valkey", valkey.command, lambda _: valkey.answers(), ends_last=True))
        while not child.answers() and not self.supervisor.stop_asked:
            if child.deaths > 1 and valkey.put_data_aside():
                say("Valkey's data cannot be read. It starts empty; the relay will publish the due tasks again.")
            self.supervisor.tick(0.05)
        return child.answers()

    def _configure(self, redis_url: str) -> None:
        self.values = configuration.compose(redis_url)
        # Whatever project the shell was used for before, these are the shop's processes.
        self.supervisor.environment |= {**self.values, "DJANGO_SETTINGS_MODULE": "core.settings"}

    def _prepare_database(self) -> bool:
        """Migrate, and load the sample data where needed. False if stopped or failed."""
        line = MovingLine()
        started = time.monotonic()
        code, said = self.supervisor.run_once(
            "prepare",
            [
                *(str(PYTHON), "manage.py", "seed_demo", "--migrate"),
                *(("--catcher", self._catcher_url, str(CATCHER_SECRET)) if self._has_catcher else ()),
            ],
            meanwhile=lambda: line.show(f"Preparing the database ... {time.monotonic() - started:.0f} s"),
        )
        if self.supervisor.stop_asked:
            return False
        line.finish(f"Prepared the database in {time.monotonic() - started:.0f} s.")
        if code:
            say("\n".join(said.splitlines()[-10:]))
            say("The database could not be prepared. The full output is in var/log/prepare.log.")
        return code == 0

    def _programs(self) -> list[Program]:
        # A relay that logs only warnings does not say that it is ready.
        relay_speaks = (configuration.given("LOG_LEVEL") or "INFO").upper() in {"INFO", "DEBUG"}
        return [
            Program("web", (str(PYTHON), "manage.py", "serve"), lambda _: answers(self.port, "/health/ready/")),
            Program(
                "relay",
                (str(PYTHON), "manage.py", "relay"),
                lambda said: "The relay is ready" in said or not relay_speaks,
            ),
            Program(
                "worker",
                (*CELERY, "worker", "-l", "INFO", "--without-gossip", "--without-mingle", "-c", "2"),
                lambda said: " ready." in said,
            ),
            *([self._catcher()] if self._has_catcher else []),
            Program("beat", (*CELERY, "beat", "-l", "INFO", "--pidfile="), lambda said: "beat: Starting" in said),
        ]

    def _catcher(self) -> Program:
        port = int(self.values["CATCHER_PORT"])
        command = (str(PYTHON), "-m", "launcher.catcher", str(port), str(CATCHER_SECRET))
        return Program("catcher", command, lambda _: answers(port, "/"))

    def _flower(self) -> Program:
        port = int(self.values["FLOWER_PORT"])
        command = (*CELERY, "flower", "--address=127.0.0.1", f"--port={port}")
        return Program("flower", command, lambda _: answers(port, "/healthcheck"))


def answers(port: int, path: str) -> bool:
    """Whether a web process on this machine answers a request without a server error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    with suppress(OSError, http.client.HTTPException), closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status < 500
    return False
