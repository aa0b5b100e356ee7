"""
Protection of pages that Flower leaves open: used by ``flowerconfig.py``.

Flower answers ``/metrics`` and ``/healthcheck`` without a password, whatever else needs one.
"""

import re
from ipaddress import ip_address
from typing import Any, Final

from django.conf import settings
from flower.views import monitor
from flower.views.tasks import TaskView
from tornado.web import authenticated

#: The first row that a message's arguments name; see ``celery_ledger.relay.broker``.
ROW: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def close_doors() -> None:
    """Require the password for ``/metrics`` and ``/healthcheck``, except on this machine and without a proxy."""
    for handler in (monitor.Metrics, monitor.Healthcheck):
        handler.get = _guarded(handler.get)


def format_task(task: Any) -> Any:
    """Show the task's URL in the ledger in place of keyword arguments, which its message never has."""
    if task.kwargs in {"{}", None, ""} and task.name and not str(task.name).startswith("celery."):
        row = ROW.search(str(task.args or ""))
        if row:
            task.kwargs = _address(row[0])
    return task


def link_to_ledger() -> None:
    """Turn that URL into a link; Flower shows arguments as text."""
    address = re.compile(re.escape(_address("ID")).replace("ID", ROW.pattern))

    def render_string(handler: Any, template: str, **values: Any) -> str:
        page = super(TaskView, handler).render_string(template, **values).decode()
        return address.sub(r'<a href="\g<0>">\g<0></a>', page)

    TaskView.render_string = render_string


def _address(id: str) -> str:
    return f"{settings.SITE_URL}/admin/celery_ledger/durabletask/{id}/change/"


def _guarded(get: Any) -> Any:
    behind_password: Any = authenticated(get)

    async def guarded(handler: Any) -> None:
        await (get if _is_near(handler.request) else behind_password)(handler)

    return guarded


def _is_near(request: Any) -> bool:
    if settings.BEHIND_PROXY or any(name in request.headers for name in ("X-Forwarded-For", "Forwarded")):
        return False
    try:
        return ip_address(request.remote_ip).is_loopback
    except ValueError:
        return False
