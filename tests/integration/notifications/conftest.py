"""What the tests of live streams share: a web process that hears of notifications, and a reader."""

import pytest

from tests.shop import make_user
from tests.streams import web_that_hears


@pytest.fixture
def web(machine, settings):
    with web_that_hears(machine, settings) as machine:
        yield machine


@pytest.fixture
def reader():
    return make_user(username="reader")
