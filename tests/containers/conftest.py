"""
The project in containers, built from its own Dockerfile.

These tests run by themselves, with ``python3 run.py test -n 0 tests/containers``, for they build an image and fill the
machine. Where no Docker engine answers they are skipped.
"""

import os
import subprocess
from pathlib import Path

import pytest
from pytest_celery import (
    CELERY_RABBITMQ_BROKER,
    CELERY_REDIS_BROKER,
    CeleryTestWorker,
    CeleryWorkerCluster,
)
from pytest_docker_tools import container, fxtr, network

from tests.containers.cluster import PASSWORD, Link, RabbitMQ, Redis, RelayContainer, WorkerContainer
from tests.containers.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    reason = ""
    if len(ours) < len(items):
        reason = "container tests run by themselves: python3 run.py test -n 0 tests/containers"
    elif ours and not engine_answers():
        reason = "no Docker engine answers here"
    for item in ours:
        item.add_marker(pytest.mark.containers)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def engine_answers() -> bool:
    try:
        return subprocess.run(["docker", "compose", "ls"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


# --- The shop, once for all tests: its database keeps what each of them did ---


@pytest.fixture(scope="session")
def shopwire_image():
    """The image of this project's Dockerfile, by BuildKit; ``build`` of pytest-docker-tools has the old builder."""
    name = os.environ.get("SHOPWIRE_IMAGE", "shopwire:local")
    subprocess.run(["docker", "build", "--quiet", "--tag", name, ROOT], check=True, timeout=600)
    return name


# Brokers, relays, web process and database are in this one, and pytest-celery puts its own containers there.
default_pytest_celery_network = network(scope="session")
# Workers are in this one, with a way to the database that stays when that to the broker is cut.
workers_network = network(scope="session")

postgres = container(
    scope="session",
    image=os.environ.get("POSTGRES_IMAGE", "postgres:17"),
    environment={"POSTGRES_USER": "shopwire", "POSTGRES_PASSWORD": PASSWORD},
    tmpfs={"/var/lib/postgresql/data": ""},
    network="{default_pytest_celery_network.name}",
    ports={"5432/tcp": None},
    timeout=240,
)
mail = container(
    scope="session",
    image=os.environ.get("MAIL_IMAGE", "maildev/maildev:2.2.1"),
    network="{default_pytest_celery_network.name}",
    ports={"1080/tcp": None},
    timeout=240,
)


@pytest.fixture(scope="session")
def environment(postgres, mail):
    """The variables of every container of the shop, but for its broker."""
    return {
        "SECRET_KEY": "of-a-shop-for-tests-" * 3,
        "ALLOWED_HOSTS": "*",
        "HTTPS": "0",
        "DATABASE_URL": f"postgres://shopwire:{PASSWORD}@{postgres.name}:5432/shopwire",
        "EMAIL_URL": f"smtp://{mail.name}:1025",
        "SMS_URL": "console:",
    }


@pytest.fixture(scope="session")
def migrated_environment(docker_client, shopwire_image, default_pytest_celery_network, environment):
    """The same, once the database has its tables and the sample goods and accounts."""
    docker_client.containers.run(
        shopwire_image,
        "python manage.py seed_demo --migrate",
        environment={**environment, "DEBUG": "1"},
        network=default_pytest_celery_network.name,
        remove=True,
    )
    return environment


web = container(
    scope="session",
    image="{shopwire_image}",
    environment=fxtr("migrated_environment"),
    network="{default_pytest_celery_network.name}",
    ports={"8000/tcp": None},
    timeout=240,
)


@pytest.fixture(scope="session")
def shop(web, postgres, mail, workers_network):
    for each in (postgres, mail):
        workers_network.connect(each.id)
    shop = Shop(web, postgres, mail)
    shop.database.execute("UPDATE django_celery_beat_periodictask SET enabled = false")  # No beat runs here.
    yield shop
    shop.close()
    for each in (postgres, mail):
        workers_network.disconnect(each.id)


# --- Broker and workers, anew for each test: what pytest-celery is told otherwise ---


@pytest.fixture
def default_redis_broker_cls():
    return Redis


@pytest.fixture
def default_rabbitmq_broker_cls():
    return RabbitMQ


default_redis_broker = container(
    image=os.environ.get("REDIS_IMAGE", "redis:8"),
    command=fxtr("default_redis_broker_command"),
    network="{default_pytest_celery_network.name}",
    ports=fxtr("default_redis_broker_ports"),
    wrapper_class=Redis,
    timeout=240,
)
default_rabbitmq_broker = container(
    image=os.environ.get("RABBITMQ_IMAGE", "rabbitmq:4"),
    environment=fxtr("default_rabbitmq_broker_env"),
    tmpfs={"/var/lib/rabbitmq": ""},  # So that it is empty after a restart, as the plugin's Redis is.
    network="{default_pytest_celery_network.name}",
    ports=fxtr("default_rabbitmq_broker_ports"),
    wrapper_class=RabbitMQ,
    timeout=240,
)


@pytest.fixture(params=[CELERY_REDIS_BROKER, CELERY_RABBITMQ_BROKER], ids=["Redis", "RabbitMQ"])
def celery_broker(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def celery_backend_cluster():
    """Results are rows of the ledger's database."""


@pytest.fixture
def cut_network(workers_network, celery_broker):
    link = Link(workers_network, celery_broker.container)
    link.connect()
    return link


@pytest.fixture
def celery_worker_cluster_config(celery_broker_cluster_config, environment):
    return {"celery_broker_cluster_config": celery_broker_cluster_config, "environment": environment}


@pytest.fixture
def default_worker_container_cls():
    return WorkerContainer


@pytest.fixture(scope="session")
def default_worker_container_session_cls():
    return WorkerContainer


@pytest.fixture
def celery_setup_app():
    """The project's own app: any other would become the current one, to which the shop's tasks would go."""
    from worker.celery import app

    return app


def shopwire_container(network: str, **options):
    """
    Return a fixture of a container of this project's image.

    In place of the plugin's own, whose volume would lie over the project's code in /app.
    """
    return container(
        image="{shopwire_image}",
        environment=fxtr("default_worker_env"),
        network=network,
        timeout=240,
        **options,
    )


def worker_container():
    command = fxtr("default_worker_command")
    return shopwire_container("{workers_network.name}", command=command, wrapper_class=WorkerContainer)


first_worker = worker_container()
second_worker = worker_container()


@pytest.fixture
def celery_worker_cluster(shop, cut_network, first_worker, second_worker, celery_setup_app):
    cluster = CeleryWorkerCluster(*(CeleryTestWorker(each, celery_setup_app) for each in (first_worker, second_worker)))
    yield cluster
    cluster.teardown()


def relay_container():
    command = "python manage.py relay"
    return shopwire_container("{default_pytest_celery_network.name}", command=command, wrapper_class=RelayContainer)


relay = relay_container()
second_relay = relay_container()
