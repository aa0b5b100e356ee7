"""
A plugin of pytest: Celery's own tests have five minutes each and five tries. Here they have less, on both sides.

``SUITE_POOL`` is the pool of their worker, in place of the one that their ``conftest`` names.
"""

import os

import pytest

SECONDS = 90
TRIES_MORE = 1


def pytest_collection_modifyitems(items):
    for item in items:
        item.own_markers = [mark for mark in item.own_markers if mark.name not in {"timeout", "flaky"}]
        item.add_marker(pytest.mark.timeout(SECONDS, func_only=True))  # Else a second try has no limit.
        item.add_marker(pytest.mark.flaky(reruns=TRIES_MORE))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname != "celery_worker_pool":
        return None
    pool = os.environ["SUITE_POOL"]
    fixturedef.cached_result = (pool, fixturedef.cache_key(request), None)
    return pool
