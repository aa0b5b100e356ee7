"""The project's Celery app, and all its tasks."""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from celery import Celery, _state
from celery.app.utils import find_app as find_app_in
from django.conf import settings
from django.template import engines
from django.urls import get_resolver

__all__ = ["AppNotFoundError", "find_app", "import_all", "import_tasks", "is_in_the_database"]

#: Name of the app that Celery creates itself if the project has none.
FALLBACK: Final = "default"


class AppNotFoundError(LookupError):
    """No Celery app is imported, and none is in the expected place."""

    def __init__(self, places: list[str]) -> None:
        super().__init__(
            f"This project's Celery app cannot be found. It would be in {' or '.join(places) or 'proj.celery'}; if it "
            "is elsewhere, import it in the __init__.py of the package that has the settings: "
            "from .celery import app as celery_app"
        )


def find_app() -> Any:
    """
    Return the project's Celery app. If it is not imported yet, look for it next to the settings.

    Raises:
        AppNotFoundError: the project has no Celery app.
    """
    # Otherwise Celery would create an app of its own, and every other thread would use that one from then on. The trap
    # that celery.contrib.testing puts there, to catch tests that depend on the current app, does not count either.
    known = [app for app in (_state._tls.current_app, _state.default_app) if isinstance(app, Celery)]
    made = [app for app in known if app.main != FALLBACK]
    if made:
        return made[0]
    places = _places()
    for place in places:
        if _is_module(place):
            import_module(place)
            app = find_app_in(place)
            if known or _state.default_app is None:
                app.set_current()
                app.set_default()
            return app
    raise AppNotFoundError(places)


def _places() -> list[str]:
    """Return the modules in which to look for a Celery app: ``celery`` in and above the settings' package."""
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").rpartition(".")[0]
    places = []
    while package:
        places.append(f"{package}.celery")
        package = package.rpartition(".")[0]
    return places


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def import_tasks() -> None:
    """
    Import all modules that declare tasks, as a worker does when it starts.

    Celery itself would set Django up a second time, and with it every logger. Raises what :func:`find_app` raises.
    """
    app = find_app()
    app.autodiscover_tasks(force=True)
    for module in app.loader.default_modules:
        app.loader.import_task_module(module)


def import_all() -> None:
    """
    Import all modules that declare tasks, and those that Django's checks import when a worker starts.

    Some projects have tasks next to their views and template tags. A process that runs the checks needs only
    :func:`import_tasks`. Raises what :func:`find_app` raises.
    """
    import_tasks()
    engines.all()
    if getattr(settings, "ROOT_URLCONF", None):
        _ = get_resolver().url_patterns


def is_in_the_database(backend: Any) -> bool:
    """Whether a result backend is django-celery-results', whose rows the ledger writes."""
    return type(backend).__module__.startswith("django_celery_results")
