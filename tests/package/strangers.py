"""Celery apps of independent projects, each the current app during one test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, _state


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Celery]]:
    """Return what makes a project's Celery app, with the two lines, and has it be the current one."""
    made: list[Celery] = []

    # The shop's shared tasks are in every app of this process, and are written for its class.
    def make(*, task_cls: Any = "worker.task:Task", broker: str = "redis://", **conf: Any) -> Celery:
        app = Celery("stranger", broker=broker, task_cls=task_cls, set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        monkeypatch.setattr(_state, "default_app", app)
        monkeypatch.setattr(_state._tls, "current_app", app)
        return app

    yield make
    for app in made:
        app.close()
