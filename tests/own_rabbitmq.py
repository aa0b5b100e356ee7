"""A RabbitMQ node of a test's own, to be killed."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import kombu
from amqp.exceptions import NotFound

from tests.processes import free_port, wait_until


def find_server() -> Path | None:
    """Return the script that starts a node as whoever calls it, or None: not every machine has one."""
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"), reverse=True)
    on_path = shutil.which("rabbitmq-server")
    return scripts[0] if scripts else Path(on_path) if on_path else None


class OwnRabbitMQ:
    """A node whose data is in ``folder``."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.script = script
        self.port = free_port()
        self.folder = folder / f"rabbitmq-{self.port}"
        self.folder.mkdir()
        self.log = folder / f"rabbitmq-{self.port}.log"
        (self.folder / "plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        self.name = f"shop{self.port}@localhost"
        self.environment = {
            **os.environ,
            "HOME": str(folder),  # Its cookie is there, which nodes of one folder share: so they may be a cluster.
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
        }
        self.start()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.script)], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until("RabbitMQ answers", self._answers, seconds=60)
        except AssertionError:
            self.kill()
            raise

    def join(self, other: "OwnRabbitMQ") -> None:
        """Become a member of the cluster that ``other`` is in."""
        self._control("stop_app")
        self._control("join_cluster", other.name)
        self._control("start_app")

    def kill(self) -> None:
        """End the node and all that it started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue, 0 if it is not there yet."""
        with kombu.Connection(self.url) as link:
            try:
                return int(link.channel().queue_declare(queue, passive=True).message_count)
            except NotFound:
                return 0

    def connections(self) -> int:
        """Return how many connections this node itself serves."""
        listing = self._control("--quiet", "list_connections", "pid")
        return sum(line.startswith(f"<{self.name}.") for line in listing.splitlines())

    def add_host(self, name: str) -> str:
        """Add a virtual host, and return its URL."""
        self._control("add_vhost", name)
        self._control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return self.url.removesuffix("/") + name

    def limit(self, queue: str, messages: int) -> None:
        """Have a queue refuse what is beyond so many messages."""
        definition = f'{{"max-length": {messages}, "overflow": "reject-publish"}}'
        self._control("set_policy", "full", f"^{queue}$", definition, "--apply-to", "queues")

    def take_limits_off(self) -> None:
        self._control("clear_policy", "full")

    def _control(self, *command: str) -> str:
        done = subprocess.run(
            [str(self.script.parent / "rabbitmqctl"), "-n", self.name, *command],
            env=self.environment,
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout

    def _answers(self) -> bool:
        try:
            with kombu.Connection(self.url, connect_timeout=2) as link:
                link.connect()
                return True
        except OSError:
            return False
