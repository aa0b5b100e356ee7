"""A PostgreSQL cluster of a test's own, to be stopped, frozen and restarted."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.processes import free_port, wait_until


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``, or None: not every machine has a server."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class OwnPostgreSQL:
    """
    A server with one database, ``shop``. As root it runs as the user ``postgres``, as it must.

    Its commits do not wait for the disk's own cache (``fsync`` is off): the machine stays up, only
    the server dies.
    """

    def __init__(self, log: Path, binaries: Path, **options: str) -> None:
        self.binaries = binaries
        self.data = Path(tempfile.mkdtemp(prefix="shopwire-postgresql-"))  # Where another user may go.
        self.log = log
        self.port = free_port()
        self.options = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **options}
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.data, self.user)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")

    def url(self, database: str = "shop") -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        command = [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in self.options.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=self.user, start_new_session=True)
        wait_until("PostgreSQL answers", self._answers, seconds=30)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres"), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def stop_at_once(self) -> None:
        """End it as a crash does: no goodbye, recovery at the next start."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def restart(self, *, seconds_away: float = 0) -> None:
        """Crash it, leave it away for a while, and start it again."""
        self.stop_at_once()
        time.sleep(seconds_away)
        self.start()

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay, nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        answer = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        for pid in [self.process.pid, *map(int, answer.stdout.split())]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        self.thaw()
        if self.process.poll() is None:
            self.stop_at_once()
        shutil.rmtree(self.data)

    def copy_schema(self, source: str) -> None:
        """Make the tables of the database at the URL ``source``, and the few rows that migrations put in them."""
        dump = subprocess.run([str(self.binaries / "pg_dump"), "--no-owner", source], capture_output=True, check=True)
        subprocess.run(
            [str(self.binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", self.url()],
            input=dump.stdout,
            capture_output=True,
            check=True,
        )

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [str(self.binaries / command[0]), *command[1:]], capture_output=True, text=True, user=self.user, check=False
        )
        assert done.returncode == 0, done.stderr
