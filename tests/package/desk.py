"""
A small project with Django's own admin and the desk in it.

``python -m tests.package.desk FOLDER APP...`` visits the pages and decides there, and says as JSON what it met.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.package.small import set_up

APPS = ["django.contrib.sessions", "django.contrib.messages", "django.contrib.staticfiles", "django.contrib.admin"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def run(folder: Path, apps: Sequence[str]) -> dict[str, Any]:
    set_up(
        folder,
        apps=["celery_ledger.contrib.admin", *APPS, *apps],
        ALLOWED_HOSTS=["testserver"],
        MIDDLEWARE=MIDDLEWARE,
        ROOT_URLCONF="tests.package.admin_urls",
        SECRET_KEY="a stranger's",
        STATIC_URL="static/",
        TEMPLATES=TEMPLATES,
    )
    from celery import shared_task
    from django.contrib.auth.models import Permission, User
    from django.contrib.staticfiles import finders
    from django.core.management import call_command
    from django.test import Client
    from django.urls import reverse

    from celery_ledger import testing
    from celery_ledger.models import DurableTask, QueueLimit
    from celery_ledger.rows import ledger

    @shared_task(name="small.open_gate", max_retries=0)
    def open_gate(name: str) -> str:
        if name != "yard":
            raise PermissionError(f"no key to {name}")
        return name

    def client(*permissions: str, superuser: bool = False) -> Client:
        user = User.objects.create_user(f"user {User.objects.count()}", is_staff=True, is_superuser=superuser)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Client()
        browser.force_login(user)
        return browser

    def status(id: str) -> str:
        return DurableTask.objects.get(pk=id).status

    call_command("check", tags=["admin", "models", "templates", "urls"], fail_level="WARNING")
    done, edited, replayed, discarded, chosen = (
        open_gate.delay(name).id for name in ("yard", "garden", "garden", "garden", "garden")
    )
    testing.drain()
    waiting = open_gate.apply_async(["yard"], countdown=3600).id
    pages = {
        "index": reverse("admin:index"),
        "ledger": reverse("admin:app_list", args=["celery_ledger"]),
        "tasks": reverse("admin:celery_ledger_durabletask_changelist"),
        "found": reverse("admin:celery_ledger_durabletask_changelist") + "?q=no+key",
        "numbered": reverse("admin:celery_ledger_durabletask_changelist") + "?q=42",
        "done": reverse("admin:celery_ledger_durabletask_change", args=[done]),
        "dead": reverse("admin:celery_ledger_durabletask_change", args=[edited]),
        "edit": reverse("admin:celery_ledger_durabletask_edit", args=[edited]),
        "dead letters": reverse("admin:celery_ledger_durabletask_dead"),
        "queues": reverse("admin:celery_ledger_queueswitch_changelist"),
    }
    if "django_celery_beat" in apps:
        pages["schedules"] = reverse("admin:django_celery_beat_periodictask_changelist")
        pages["new schedule"] = reverse("admin:django_celery_beat_periodictask_add")

    anybody, looker, operator = client(), client("view_durabletask", "view_queueswitch"), client(superuser=True)
    answers = {name: operator.get(address) for name, address in pages.items()}
    desks = [name for name in pages if name not in {"index", "ledger", "edit", "schedules", "new schedule"}]
    said: dict[str, Any] = {
        "operator": {name: answer.status_code for name, answer in answers.items()},
        "anybody": {name: anybody.get(pages[name]).status_code for name in desks},
        "stranger": {name: Client().get(pages[name]).status_code for name in desks},
        "looker": {name: looker.get(pages[name]).status_code for name in desks},
        "looker edits": looker.get(pages["edit"]).status_code,
        "to Flower": operator.get(
            reverse("admin:celery_ledger_durabletask_flower", args=[done]), follow=True
        ).status_code,
        "text": {name: answer.content.decode() for name, answer in answers.items()},
        "styles": bool(finders.find("celery_ledger_admin/desk.css")),
    }

    group = operator.get(pages["dead letters"]).context_data["groups"][0].fingerprint
    wish = {"fingerprint": group, "decision": "replay"}
    said["looker decides"] = looker.post(pages["dead letters"], wish).status_code
    said["looker steers"] = looker.post(pages["queues"], {"queue": "celery", "decision": "pause"}).status_code
    said["dead then"] = DurableTask.objects.filter(status="dead").count()
    said["paused then"] = sorted(ledger.paused_queues())

    operator.post(pages["edit"], {"args": '["yard"]', "kwargs": "{}"})
    for action, id in (("replay", replayed), ("discard", discarded), ("cancel", waiting)):
        operator.post(pages["tasks"], {"action": action, "_selected_action": [id], "reason": "a test"})
    said["statuses"] = {
        "edited": status(edited),
        "replayed": status(replayed),
        "discarded": status(discarded),
        "cancelled": status(waiting),
    }
    testing.drain()
    said["statuses"]["edited and run"] = status(edited)
    said["attempts of the replayed"] = DurableTask.objects.get(pk=replayed).attempts
    operator.post(pages["dead letters"], {"fingerprint": group, "decision": "discard", "reason": "a test"})
    said["statuses"]["discarded with its group"] = status(chosen)
    operator.post(pages["queues"], {"queue": "celery", "decision": "pause"})
    said["paused"] = sorted(ledger.paused_queues())
    operator.post(pages["queues"], {"queue": "celery", "decision": "resume"})
    said["resumed"] = sorted(ledger.paused_queues())
    operator.post(pages["queues"], {"queue": "celery", "decision": "limit", "per_second": "3", "concurrency": "2"})
    said["limits"] = list(QueueLimit.objects.values_list("queue", "per_second", "concurrency"))
    return said


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        said = run(Path(sys.argv[1]), sys.argv[2:])
    print(json.dumps(said))
