"""No setting is needed, each is read when it is used, and a bad value is refused."""

import pytest
from django.conf import settings as real
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from celery_ledger import conf
from celery_ledger.relay.relay import relay_from_settings
from worker.celery import app


@pytest.fixture
def bare(settings):
    """Settings of a project that says nothing."""
    for setting in conf.SETTINGS:
        delattr(settings, setting.name)


@pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)
def test_each_has_a_default_that_is_right(bare, setting):
    assert not hasattr(real, setting.name)
    assert setting.problem() is None
    assert setting.value == setting.default


def test_a_relay_needs_none(bare):
    relay = relay_from_settings(app)
    assert (relay.window, relay.lease) == (100, 60)


def test_a_value_is_read_when_it_is_used():
    with override_settings(LEDGER_QUEUE_WINDOW=7):
        assert relay_from_settings(app).window == 7
    assert relay_from_settings(app).window == 100


@pytest.mark.parametrize("value", [0, 2.5, "100", None, True])
def test_a_bad_value_is_refused_where_it_is_used(settings, value):
    settings.LEDGER_QUEUE_WINDOW = value
    with pytest.raises(ImproperlyConfigured, match="LEDGER_QUEUE_WINDOW must be a whole number above 0"):
        relay_from_settings(app)
