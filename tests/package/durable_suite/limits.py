"""A plugin of pytest: Celery's own tests have five minutes each and five tries. Here they have less, on both sides."""

import pytest

SECONDS = 90
TRIES_MORE = 1


def pytest_collection_modifyitems(items):
    for item in items:
        item.own_markers = [mark for mark in item.own_markers if mark.name not in {"timeout", "flaky"}]
        item.add_marker(pytest.mark.timeout(SECONDS, func_only=True))  # Else a second try has no limit.
        item.add_marker(pytest.mark.flaky(reruns=TRIES_MORE))
