"""The operators' API with two ledgers: each request is about one, and what it names is found in either."""

import pytest
from django.apps import apps
from django.db import ConnectionHandler, connections

from celery_ledger.models import DurableTask, QueueSwitch
from tests.shop import api, make_staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def east(tmp_path, settings, db):
    """Have a second ledger, in a SQLite file."""
    said = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "east.sqlite3")}
    connections.settings["east"] = ConnectionHandler({"default": said}).settings["default"]
    connections["east"].connect()  # Tests may not open connections to databases that the settings do not have.
    with connections["east"].schema_editor() as editor:
        for app in ("celery_ledger", "django_celery_results"):
            for model in apps.get_app_config(app).get_models():
                editor.create_model(model)
    settings.LEDGER_DATABASES = ["default", "east"]
    yield "east"
    connections["east"].close()
    del connections["east"]
    del connections.settings["east"]


def row(alias, subject, **columns):
    made = DurableTask(name="tests.make_collection", queue="default", args=[1], subject=subject, **columns)
    made.save(using=alias)
    return made


def test_a_list_is_of_the_database_that_is_asked_for(east):
    row("default", "store.order:1")
    for number in (2, 3):
        row(east, f"store.order:{number}")
    staff = api(make_staff())
    assert [task["subject"] for task in staff.get("/api/ops/tasks/?task=tests.make_collection").json()["results"]] == [
        "store.order:1"
    ]
    page = staff.get("/api/ops/tasks/?database=east&page_size=1&task=tests.make_collection").json()
    assert [task["subject"] for task in page["results"]] == ["store.order:3"]
    page = staff.get(page["next"]).json()
    assert [task["subject"] for task in page["results"]] == ["store.order:2"]
    assert staff.get("/api/ops/tasks/?database=west").status_code == 404


def test_a_task_is_found_and_cancelled_where_it_is(east):
    task = row(east, "store.order:1")
    staff = api(make_staff("cancel_durabletask"))
    assert staff.get(f"/api/ops/tasks/{task.id}/").json()["task"]["subject"] == "store.order:1"
    answer = staff.post(f"/api/ops/tasks/{task.id}/cancel/", {"reason": "a test"}, format="json")
    assert answer.json()["status"] == "cancelled"


def test_a_queue_is_paused_where_it_is_asked_for(east):
    staff = api(make_staff("change_queueswitch"))
    assert staff.post("/api/ops/queues/email/pause/?database=east").json()["paused"]
    assert [QueueSwitch.objects.using(alias).count() for alias in ("default", east)] == [0, 1]


def test_a_canvas_is_found_where_it_is(east):
    task = row(east, "store.order:1", canvas="01890000-0000-7000-8000-000000000001")
    answer = api(make_staff()).get(f"/api/ops/canvases/{task.canvas}/")
    assert answer.json()["total"] == 1
