"""A PgBouncer of a test's own, which lends each of a few sessions for a transaction at a time."""

import getpass
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.processes import free_port, wait_until


def find_pgbouncer() -> str | None:
    """Return the program, or None: not every machine has one."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class OwnPgBouncer:
    """Stands before the database at ``upstream``; ``settings`` are lines of its own configuration."""

    def __init__(
        self,
        program: str,
        upstream: str,
        log: Path,
        *,
        sessions: int = 4,
        settings: str = "ignore_startup_parameters = options,extra_float_digits\n",
    ) -> None:
        self.program = program
        self.log = log
        url = urlsplit(upstream)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="shopwire-pgbouncer-"))
        self.user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        shutil.chown(self.folder, self.user)
        self.url = url._replace(netloc=f"{url.username}@127.0.0.1:{self.port}").geturl()
        password = f" password={url.password}" if url.password else ""
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={url.hostname} port={url.port} user={url.username}{password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nauth_type = any\nunix_socket_dir =\n"
            f"pool_mode = transaction\ndefault_pool_size = {sessions}\nmin_pool_size = {sessions}\n"
            "server_round_robin = 1\nserver_idle_timeout = 600\nadmin_users = postgres\nmax_client_conn = 500\n"
            f"{settings}"
        )
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, str(self.folder / "pgbouncer.ini")],
                stdout=output,
                stderr=output,
                user=self.user if os.geteuid() == 0 else None,
                start_new_session=True,
            )
        wait_until("PgBouncer answers", self._answers, seconds=20)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        """End it, with every connection to it and of it, and start it again."""
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)
