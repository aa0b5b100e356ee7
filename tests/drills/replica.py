"""A standby that follows an own PostgreSQL and can take its place, and an HAProxy that knows who takes writes."""

import http.server
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import psycopg

from tests.own_postgresql import OwnPostgreSQL
from tests.processes import free_port, wait_until

HAPROXY = """
global
    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout client 10m
    timeout server 10m
listen postgresql
    bind 127.0.0.1:{port}
    option httpchk GET /primary
    default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
    server first 127.0.0.1:{first} check port {first_check}
    server second 127.0.0.1:{second} check port {second_check}
"""


class Standby(OwnPostgreSQL):
    """Follows ``primary`` as ``name``; what it has of it is made once, by ``pg_basebackup``."""

    def __init__(self, primary: OwnPostgreSQL, log: Path, *, name: str = "standby", **options: str) -> None:
        self.binaries, self.log, self.user = primary.binaries, log, primary.user
        self.data = Path(tempfile.mkdtemp(prefix="shopwire-postgresql-"))
        self.port = free_port()
        self.options = {**primary.options, **options}
        if self.user:
            shutil.chown(self.data, self.user)
        where = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        self._run("pg_basebackup", "-d", where, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "--no-sync")
        self.start()

    def promote(self) -> None:
        """Take the primary's place."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as link:
            link.execute("SELECT pg_promote(wait => true)")


class _Witness(http.server.ThreadingHTTPServer):
    """Answers 200 as long as the server at ``url`` takes writes, as an agent beside each server does."""

    def __init__(self, url: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    with psycopg.connect(url, connect_timeout=1, autocommit=True) as link:
                        [is_standby] = link.execute("SELECT pg_is_in_recovery()").fetchone() or [True]
                except psycopg.Error:
                    is_standby = True
                self.send_response(503 if is_standby else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class OwnHAProxy:
    """Leads to whichever of two servers takes writes."""

    def __init__(self, program: str, first: OwnPostgreSQL, second: OwnPostgreSQL, log: Path) -> None:
        self.port = free_port()
        self.witnesses = [_Witness(server.url("postgres")) for server in (first, second)]
        self.folder = Path(tempfile.mkdtemp(prefix="shopwire-haproxy-"))
        file = self.folder / "haproxy.cfg"
        file.write_text(
            HAPROXY.format(
                port=self.port,
                first=first.port,
                second=second.port,
                first_check=self.witnesses[0].server_port,
                second_check=self.witnesses[1].server_port,
            )
        )
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program, "-db", "-f", str(file)], stdout=output, stderr=output, start_new_session=True
            )
        wait_until("HAProxy leads to a server", self._answers, seconds=20)

    @property
    def url(self) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/shop"

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for witness in self.witnesses:
            witness.shutdown()
            witness.server_close()
        shutil.rmtree(self.folder)


def find_haproxy() -> str | None:
    """Return the program, or None: not every machine has one."""
    return shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
