"""The report of ``ledger_adopt`` on a project, before anything is changed."""

import json
import subprocess
import sys
from io import StringIO
from unittest import mock

import celery
import pytest
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import OperationalError
from kombu import pools

from celery_ledger.desk import adoption
from tests.processes import ROOT
from worker.celery import app

pytestmark = pytest.mark.django_db


class OfALibrary(celery.Task):
    abstract = True


def of_a_library():
    """Its class knows nothing of the package."""


def of_the_app():
    """Its class is the app's own, two steps away."""


def limited():
    """What a worker does not keep."""


def cautious():
    """What is not run again."""


@pytest.fixture(scope="module")
def odd_tasks():
    """Three tasks that the shop has while these tests run."""
    made = [
        app.task(name="tests.of_a_library", base=OfALibrary, shared=False)(of_a_library),
        app.task(name="tests.limited", rate_limit="10/m", priority=10, shared=False)(limited),
        app.task(name="tests.cautious", acks_late=False, shared=False)(cautious),
    ]
    yield
    for task in made:
        app.tasks.pop(task.name)


@pytest.fixture(scope="module")
def said(odd_tasks):
    with mock.patch.object(adoption, "_queues_taken", return_value={"email"}):
        return list(adoption.remarks())


def about(said, topic):
    return {remark.about: remark for remark in said if remark.topic == topic}


def test_a_class_of_others_is_named_with_its_tasks(said):
    remark = about(said, "base classes")[f"{__name__}.OfALibrary"]
    assert "tests.of_a_library" in remark.words
    assert "celery_ledger.Task" in remark.advice


def test_a_task_that_names_celery_s_own_class_is_to_name_none():
    plain = celery.Celery("plain", broker="memory://", set_as_current=False, task_cls="celery:Task")
    plain.task(name="tests.celerys", base=celery.Task, shared=False)(of_the_app)
    [remark] = adoption._of_bases(plain, {"tests.celerys": plain.tasks["tests.celerys"]})
    assert remark.about == "base=celery.Task"
    assert remark.advice.startswith("Remove base=")


def test_a_class_that_derives_from_the_app_s_own_goes_with_it():
    plain = celery.Celery("plain", broker="memory://", set_as_current=False, task_cls="celery:Task")

    class Own(plain.Task):
        abstract = True

    class Further(Own):
        abstract = True

    plain.task(name="tests.further", base=Further, shared=False)(of_the_app)
    task = plain.tasks["tests.further"]
    assert list(adoption._of_bases(plain, {task.name: task})) == []


def test_a_task_cls_of_the_project_s_is_to_be_derived_and_not_replaced():
    plain = celery.Celery("plain", broker="memory://", set_as_current=False, task_cls=OfALibrary)
    [remark] = adoption._of_bases(plain, {})
    assert remark.about == f"{__name__}.OfALibrary"
    assert "leave task_cls as it is" in remark.advice


def test_a_project_s_own_checks_are_not_asked():
    def check_that_asks_a_database_that_is_away(**_):
        raise OperationalError("nobody there")

    registry.register(check_that_asks_a_database_that_is_away)
    try:
        list(adoption._of_settings())
    finally:
        registry.registered_checks.remove(check_that_asks_a_database_that_is_away)


def test_options_that_mean_something_else_are_named(said):
    options = about(said, "options")
    assert "tests.limited" in options["rate_limit"].words
    assert "tests.limited" in options["priority"].words
    assert "tests.cautious" in options["acks_late=False"].words


def test_all_queues_are_named_where_no_worker_answers():
    with mock.patch.object(adoption, "_queues_taken", return_value=None):
        [remark] = adoption._of_queues(app, app.tasks)
    assert {"inventory", "email", "notifications"} <= set(remark.about.split(", "))


def test_queues_that_no_worker_takes_are_named(said):
    assert "inventory" in about(said, "queues")
    assert "email" not in about(said, "queues")


@pytest.fixture
def pools_as_before():
    """Celery sets the limit of an app's pools for the whole process."""
    limit = pools.get_limit()
    yield
    pools.set_limit(limit)


@pytest.mark.timeout(30)
@pytest.mark.usefixtures("pools_as_before")
def test_workers_are_asked_where_the_pool_has_one_connection():
    small = celery.Celery("small", broker="memory://", set_as_current=False)
    small.conf.broker_pool_limit = 1
    assert adoption._queues_taken(small) is None


def test_no_worker_is_no_answer():
    with mock.patch.object(app.control, "inspect", side_effect=OSError):
        assert adoption._queues_taken(app) is None


def test_what_the_package_checks_is_said_too(settings):
    app.conf.worker_prefetch_multiplier = 4
    try:
        assert "celery_ledger.W019" in about(adoption._of_settings(), "settings")
    finally:
        app.conf.worker_prefetch_multiplier = 1


def test_an_external_effect_is_named_with_the_function_that_has_it():
    places = {
        "requests.api": "shop.client.ask",
        "requests.exceptions": "shop.client.retry",
        "open()": f"{__name__}.limited",
    }
    assert adoption._places(limited, places) == ["requests (shop.client.ask)", "open()"]


def test_the_shops_own_tasks_are_told_apart():
    # In a process of its own: here the code of the tests is the project's too, and a method may be one of theirs.
    command = [sys.executable, "manage.py", "ledger_adopt", "--json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    topics = {remark["about"]: remark["topic"] for remark in json.loads(ran.stdout)}
    assert topics["store.tasks.update_inventory"] == "inside"
    assert topics["email_app.tasks.send_order_confirmation"] == "outside"


def test_calls_that_would_be_refused_are_found_where_they_stand(tmp_path):
    path = tmp_path / "views.py"
    path.write_text(
        "\ntask.apply_async(args=[1], routing_key='a')"
        "\ntask.apply_async(queue='b', priority=9)"
        "\ntask.s().set(priority=10)\n"
    )
    with mock.patch.object(adoption, "_own_files", return_value=[path]):
        found = list(adoption._of_calls())
    assert [remark.about for remark in found] == [f"{path}:2", f"{path}:4"]
    assert found[1].words.startswith("set(priority=10)")


def test_the_command_says_it_in_words_and_in_json(odd_tasks):
    with mock.patch.object(adoption, "_queues_taken", return_value=None):
        words, as_json = StringIO(), StringIO()
        call_command("ledger_adopt", stdout=words)
        call_command("ledger_adopt", "--json", stdout=as_json)
    assert "Tasks that would not become durable" in words.getvalue()
    assert {"topic", "about", "words", "advice"} == set(json.loads(as_json.getvalue())[0])
