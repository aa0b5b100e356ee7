"""What a broker's URL of several addresses names."""

import pytest

from tests.unit.core.test_settings import WORTHY, start
from web import broker_urls

SENTINELS = "sentinel://:secret@10.0.0.1:26380;sentinel://10.0.0.2/3"


def test_each_address_is_named():
    assert broker_urls.hosts(SENTINELS) == [("10.0.0.1", 26380), ("10.0.0.2", 26379)]
    assert broker_urls.hosts("amqp://a:b@one//;amqp://a:b@two:5673//") == [("one", 5672), ("two", 5673)]
    assert broker_urls.sentinel_options(SENTINELS) == {"password": "secret", "db": 3}
    assert broker_urls.sentinel_options("sentinel://one") == {}


def test_sentinels_are_told_whom_they_are_asked_for():
    code = "from worker.celery import app; c = app.connection_for_write(); print(c.transport_options, c.alt)"
    environment = {**WORTHY, "REDIS_URL": SENTINELS, "REDIS_MASTER": "shop"}
    run = start("shell", "-v0", "-c", code, **environment)
    assert run.returncode == 0, run.stderr
    assert "'master_name': 'shop'" in run.stdout
    assert "10.0.0.1:26380" in run.stdout
    assert "10.0.0.2" in run.stdout


@pytest.mark.parametrize(("url", "is_refused"), [(SENTINELS, False), (SENTINELS.replace(":secret@", ""), True)])
def test_a_broker_of_others_without_a_password_is_refused_wherever_it_stands_in_the_list(url, is_refused):
    run = start("check", **{**WORTHY, "REDIS_URL": f"{url}"})
    assert ("core.E010" in run.stderr) is is_refused
