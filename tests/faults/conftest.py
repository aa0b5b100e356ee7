"""Servers of a single test, to be broken."""

import pytest
from django.db import connection

from tests.mail_server import MailServer
from tests.own_postgresql import OwnPostgreSQL, find_binaries
from tests.processes import database_url
from tests.tcp_proxy import tcp_proxy


@pytest.fixture
def own_postgresql(transactional_db, tmp_path):
    """A PostgreSQL with the tables of this run's; this process and the machine's use it. Name it before ``machine``."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("there are no PostgreSQL server binaries: initdb, postgres")
    server = OwnPostgreSQL(tmp_path / "postgresql.log", binaries)
    usual = dict(connection.settings_dict)
    try:
        server.copy_schema(database_url())
        connection.close()
        connection.settings_dict.update(HOST="127.0.0.1", PORT=server.port, NAME="shop", USER="postgres", PASSWORD="")
        yield server
    finally:
        connection.close()
        connection.settings_dict.update(usual)
        server.close()


@pytest.fixture
def broker_proxy(machine):
    """A proxy between the machine's processes and its Redis."""
    if machine.uses_rabbitmq:
        pytest.skip("it stands before a Redis")
    with tcp_proxy("127.0.0.1", machine.redis_port) as proxy:
        machine.environment["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
        yield proxy


@pytest.fixture
def mail_server(machine):
    """The mail server that the machine's processes send to."""
    server = MailServer()
    server.start()
    machine.environment["EMAIL_URL"] = f"smtp://127.0.0.1:{server.port}"
    yield server
    server.stop()
