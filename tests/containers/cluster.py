"""Descriptions of this project's containers for pytest-celery, and faults that it does not provide."""

from typing import Any, Self

from docker.models.networks import Network
from pytest_celery import CeleryTestContainer, CeleryWorkerContainer, RabbitMQContainer, RedisContainer
from pytest_docker_tools.wrappers import Container

QUEUES = "default,email,inventory,analytics,notifications,scheduled"
PASSWORD = "shopwire"


class Markable:
    """A broker that can be marked, to know afterwards whether it has lost everything."""

    mark_command: list[str]
    list_command: list[str]

    def mark(self) -> None:
        self._run(self.mark_command)

    def is_marked(self) -> bool:
        return "marker" in self._run(self.list_command)

    def _run(self, command: list[str]) -> str:
        code, said = self.exec_run(command)
        assert code == 0, said.decode()
        return said.decode()


class Redis(Markable, RedisContainer):
    """With a password: a relay refuses a broker on another machine that has none."""

    own_port = 6379
    mark_command = ["redis-cli", "-a", PASSWORD, "SET", "marker", "1"]
    list_command = ["redis-cli", "-a", PASSWORD, "KEYS", "marker"]

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:
        return super().command("--requirepass", PASSWORD, *args)

    @classmethod
    def prefix(cls) -> str:
        return f"redis://:{PASSWORD}@"


class RabbitMQ(Markable, RabbitMQContainer):
    """With a user and a password, as above. A virtual host is its mark."""

    own_port = 5672
    mark_command = ["rabbitmqctl", "add_vhost", "marker"]
    list_command = ["rabbitmqctl", "--quiet", "list_vhosts"]

    @classmethod
    def initial_env(cls) -> dict[str, str]:
        return {"RABBITMQ_DEFAULT_USER": "shopwire", "RABBITMQ_DEFAULT_PASS": PASSWORD}

    @classmethod
    def prefix(cls) -> str:
        return f"amqp://shopwire:{PASSWORD}@"


class Patient(CeleryTestContainer):
    """Ready when its log says so, within the fixture's timeout: the plugin's own wait gives up after half a minute."""

    def ready(self) -> bool:
        return Container.ready(self) and self.ready_prompt in self.logs()


class WorkerContainer(Patient, CeleryWorkerContainer):
    """A worker as docker-compose.yml starts it, with one child and the image's own code."""

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:
        return ["celery", "-A", "worker", "worker", "-l", "INFO", "-Q", QUEUES, "-c", "1", *args]

    @classmethod
    def initial_env(cls, celery_worker_cluster_config: dict, initial: dict | None = None) -> dict:
        return super().initial_env(celery_worker_cluster_config, celery_worker_cluster_config["environment"])


class RelayContainer(Patient):
    @property
    def ready_prompt(self) -> str:
        return "The relay is ready"

    @property
    def hostname(self) -> str:
        return self.attrs["Config"]["Hostname"]


class Link:
    """The network between workers and broker, cut while this is entered. Relays have another way to the broker."""

    def __init__(self, network: Network, broker: Redis | RabbitMQ) -> None:
        self.network = network
        self.broker = broker

    def connect(self) -> None:
        self.network.connect(self.broker.id, aliases=[self.broker.hostname])

    def __enter__(self) -> Self:
        self.network.disconnect(self.broker.id)
        return self

    def __exit__(self, *_: object) -> None:
        self.connect()

    def is_open_from(self, worker: WorkerContainer) -> bool:
        address = (self.broker.hostname, self.broker.own_port)
        code, _ = worker.exec_run(["python", "-c", f"import socket; socket.create_connection({address}, 3)"])
        return code == 0
