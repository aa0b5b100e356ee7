"""The code in the documentation works as written."""

import base64
import hmac
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest
from celery import Celery, current_task
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from celery_ledger import databases
from celery_ledger.desk import dead_letters
from celery_ledger.models import Chord, DurableTask
from celery_ledger.testing import drain, pass_time
from store.models import Order
from store.signals import order_created
from store.tasks import record_settlement
from tests import probe
from tests.shop import api, check_out, make_cart, make_customer, make_product
from webhooks.signing import make_secret, sign
from worker.celery import app

ROOT = Path(__file__).parents[3]
#: The pages whose Python is run here, and those that other tests run.
HERE = {
    "README.md",
    "celery_ledger/README.md",
    "docs/guide/adding-it-to-your-project.md",
    "docs/guide/canvas.md",
    "docs/guide/webhooks.md",
    "docs/howto/put-tasks-in-order.md",
    "docs/quickstart.md",
}
ELSEWHERE = {
    "docs/guide/django-tasks.md",  # tests/package/test_django_tasks.py
    "docs/howto/add-a-reaction.md",  # below
    "docs/howto/test-a-reaction.md",  # below
}
PAGE = ROOT / "docs" / "howto" / "add-a-reaction.md"
PAGE_ABOUT_TESTS = ROOT / "docs" / "howto" / "test-a-reaction.md"

#: What a developer would see: the point is owed, fails, is tried again, is there; and all of it is visible.
STORY = """
import json
from unittest import mock

import django

django.setup()
from django.utils import timezone
from loyalty.models import Point
from tests.shop import api, check_out, make_cart, make_customer, make_product
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain

buyer = make_customer()
client = api(buyer)
order = check_out(client, make_cart({make_product(): 1}, buyer)).json()

def task():
    rows = client.get(f"/api/orders/{order['id']}/tasks/").json()["results"]
    return next(row for row in rows if row["task"] == "loyalty.tasks.add_points")

seen = [{"points": Point.objects.count(), **task()}]
with mock.patch.object(Point.objects, "bulk_create", side_effect=RuntimeError("not today")):
    drain()
seen.append({"points": Point.objects.count(), **task()})
DurableTask.objects.filter(status="pending").update(available_at=timezone.now())
drain()
seen.append({"points": Point.objects.filter(customer=buyer, order=order["id"]).count(), **task()})
DurableTask.objects.filter(name="loyalty.tasks.add_points").update(status="pending", available_at=timezone.now())
drain()
seen.append({"points": Point.objects.count(), **task()})
print("SEEN " + json.dumps(seen))
"""


def test_a_reaction_is_added_as_the_page_says(tmp_path):
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    tests = re.findall(r"```(python)\n(.*?)```", PAGE_ABOUT_TESTS.read_text(), re.DOTALL)
    files = {re.match(r"# (\S+)\n", code)[1]: code for language, code in blocks + tests if language == "python"}
    making, managing = [code for language, code in blocks if language == "shell"]
    subprocess.run(making, shell=True, cwd=tmp_path, check=True)
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    (tmp_path / "settings_with_loyalty.py").write_text(
        "from tests.settings import *\n"
        "INSTALLED_APPS = [*INSTALLED_APPS, 'loyalty']\n"
        "ALLOWED_HOSTS = ['*']\n"
        f"DATABASES['default']['TEST'] = {{'NAME': '{tmp_path}/test.sqlite3'}}\n"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings_with_loyalty",
        "PYTEST_ADDOPTS": "--ds=settings_with_loyalty",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "DATABASE_URL": f"sqlite:///{tmp_path}/shop.sqlite3",
        "EMAIL_URL": f"filemail:///{tmp_path}/mail",
        "DEBUG": "1",
    }

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    output = [run(*line.split()[1:]) for line in managing.splitlines()]
    assert ["store.order_created", "loyalty.enqueue_points", "loyalty.tasks.add_points", "default"] in [
        line.split() for line in output[-1].splitlines()
    ]
    seen = json.loads(run("-c", STORY).rpartition("SEEN ")[2])
    assert [(each["points"], each["status"], each["attempts"]) for each in seen] == [
        (0, "pending", 0),
        (0, "pending", 1),
        (1, "succeeded", 2),
        (1, "succeeded", 3),
    ]
    assert seen[1]["label"] == "Give you a point"
    assert seen[1]["last_error"] == "This step failed and will be retried automatically."
    tested = run(
        "-m", "pytest", "-q", f"--rootdir={ROOT}", f"--config-file={ROOT}/pyproject.toml", tmp_path / "loyalty/tests.py"
    )
    assert "5 passed" in tested


def python_of(page):
    return [dedent(code) for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)]


@pytest.fixture
def project():
    """The names that the pages' code takes for granted: a Celery app that no other test sees, and its tasks."""
    app = Celery("pages", task_cls="worker.task:Task", set_as_current=False)
    yield {"Celery": partial(Celery, set_as_current=False), "app": app, "shared_task": app.task}
    app.close()


def test_every_page_with_python_is_run():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "celery_ledger/README.md"]
    pages += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    names = {str(page.relative_to(ROOT)) for page in pages if python_of(page)}
    assert names == HERE | ELSEWHERE


@pytest.mark.django_db(transaction=True)
def test_the_readmes_reaction_follows_an_order(project):
    two_lines, reaction = python_of("README.md")
    installed = {"INSTALLED_APPS": [], **project}
    exec(two_lines, installed)
    assert installed["INSTALLED_APPS"] == ["celery_ledger"]
    assert installed["app"].Task.durable
    names = {**project, "order_created": order_created}
    names["receivers"] = type("receivers", (), {"__getattr__": lambda self, name: names[name]})()
    try:
        exec(reaction, names)
        buyer = make_customer()
        order = check_out(api(buyer), make_cart({make_product(): 1}, buyer)).json()
    finally:
        order_created.disconnect(dispatch_uid="loyalty.enqueue_points")
    assert DurableTask.objects.get(name="loyalty.tasks.add_points").args == [order["id"]]


@pytest.mark.django_db(transaction=True)
def test_the_packages_readme_does_what_it_says(project, monkeypatch):
    two_lines, own_class, reindexing, importing, aliases, routing = python_of("celery_ledger/README.md")
    assert two_lines.replace("# settings.py\n", "") != two_lines
    names = {"INSTALLED_APPS": [], **project}
    for code in (two_lines, own_class):
        exec(code, names)
    module = ModuleType("proj.tasks")
    module.Task = names["Task"]
    monkeypatch.setitem(sys.modules, "proj", ModuleType("proj"))
    monkeypatch.setitem(sys.modules, "proj.tasks", module)
    assert names["app"].Task.transactional
    names["shared_task"] = project["app"].task
    for code in (reindexing, importing):
        exec(code, names)
    assert names["reindex"].delay(7).id == names["reindex"].delay(7).id != names["reindex"].delay(8).id
    row = DurableTask.objects.get(pk=names["import_products"].delay(3).id)
    assert "customer:3" in row.options.values()
    for code in (aliases, routing):
        exec(code, names)
    shop, other = (SimpleNamespace(_meta=SimpleNamespace(app_label=label)) for label in ("shop", "other"))
    with databases.using(names["LEDGER_DATABASES"][1]):
        assert [names["Shards"]().db_for_write(model) for model in (shop, other)] == ["east", None]


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")  # Celery's, of any errback on a chord.
@pytest.mark.django_db(transaction=True)
def test_the_canvases_of_the_guide_are_called(project):
    calling, collecting, cancelling = python_of("docs/guide/canvas.md")

    def task(name, *arguments):
        exec(f"def {name}({', '.join(arguments)}): ...", defined := {})
        return project["app"].task(name=f"pages.{name}")(defined[name])

    names = {
        "feed_id": 1,
        "overdue": [1, 2, 3],
        "report_id": 4,
        "fetch": task("fetch", "feed_id"),
        "parse": task("parse", "feed"),
        "store": task("store", "items"),
        "send_reminder": task("send_reminder", "pk"),
        "render_page": task("render_page", "report_id", "page"),
        "bind_pages": task("bind_pages", "pages", "report_id"),
        "tell_owner": task("tell_owner", "request", "error", "traceback"),
        "transaction": transaction,
        "record_settlement": record_settlement,
        "order_created": order_created,
        "Order": Order,
    }
    exec(calling, names)
    called = DurableTask.objects.filter(name__startswith="pages.").values_list("name", flat=True)
    assert sorted(called) == ["pages.fetch"] + 40 * ["pages.render_page"] + 3 * ["pages.send_reminder"]
    assert Chord.objects.get().missing == 40

    buyer = make_customer()
    placed = check_out(api(buyer), make_cart({make_product(): 1}, buyer)).json()
    before = Chord.objects.count()
    exec(collecting, names | {"order": Order.objects.get(pk=placed["id"])})
    assert Chord.objects.count() == before + 1

    result = (names["fetch"].s(2) | names["parse"].s()).delay()
    exec(cancelling, names | {"result": result.parent})
    assert DurableTask.objects.get(pk=result.parent.id).status == DurableTask.Status.CANCELLED


@pytest.fixture
def in_order():
    """The three modules of the page, and their tasks in the shop's app."""
    before = set(app.tasks)
    modules = []
    for code in python_of("docs/howto/put-tasks-in-order.md"):
        module = ModuleType(re.match(r"# .*?(\w+)/", code)[1])
        exec(code, module.__dict__)
        modules.append(module)
    yield modules
    for name in set(app.tasks) - before:
        del app.tasks[name]


def the_dead_letter():
    """Run tasks until one of them has failed for the last time: those of the shop's class are tried again."""
    for _ in range(30):
        pass_time(hours=1)
        drain()
        if dead := DurableTask.objects.filter(status=DurableTask.Status.DEAD).first():
            drain()
            return dead
    raise AssertionError("None has failed.")


def prices_of(*products):
    return [str(type(product).objects.get(pk=product.pk).unit_price) for product in products]


@pytest.mark.django_db(transaction=True)
def test_a_price_list_goes_on_where_it_failed(in_order, tmp_path):
    prices, _, _ = in_order
    tea, cup = make_product(price="2.00"), make_product(price="3.00")
    path = tmp_path / "prices.csv"
    result = prices.import_prices(path.as_uri())
    drain()  # There is no list yet.
    assert DurableTask.objects.get(name="prices.fetch").status == DurableTask.Status.PENDING
    path.write_text(f"sku,price\n{tea.sku},1;99\n{cup.sku},2;49\n")
    dead = the_dead_letter()
    assert (dead.name, dead.last_error.partition(":")[0]) == ("prices.read", "InvalidOperation")
    assert prices_of(tea, cup) == ["2.00", "3.00"]

    with mock.patch.object(prices, "Decimal", lambda text: text.replace(";", ".")):
        dead_letters.replay([dead.id])
        path.unlink()  # It is not fetched again.
        drain()
    assert result.get(timeout=5) == 2
    assert prices_of(tea, cup) == ["1.99", "2.49"]


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")
@pytest.mark.django_db(transaction=True)
def test_a_year_is_sent_when_all_its_months_are_there(in_order, mailoutbox, settings):
    settings.MANAGERS = [("Manager", "manager@example.com")]
    _, yearly, _ = in_order
    buyer = make_customer()
    check_out(api(buyer), make_cart({make_product(price="7.50"): 2}, buyer))
    DurableTask.objects.all().delete()
    today, turnover = timezone.now(), Order.objects.aggregate(Sum("total"))["total__sum"]

    def add_up_all_but_march(field):
        if current_task.request.args[1] == 3:
            raise ValueError("not today")
        return Sum(field)

    with mock.patch.object(yearly, "Sum", add_up_all_but_march):
        yearly.send_year(today.year, "owner@example.com")
        dead = the_dead_letter()
    assert [mail.subject for mail in mailoutbox] == ["[Django] The yearly statement is delayed"]
    assert f"Dependency {dead.id} raised ValueError('not today')" in mailoutbox[0].body
    dead_letters.replay([dead.id])
    drain()
    assert [mail.to for mail in mailoutbox[1:]] == [["owner@example.com"]]
    lines = mailoutbox[1].body.splitlines()
    assert (len(lines), lines[today.month - 1]) == (12, f"{today.month:>2}: {turnover}")


@pytest.mark.django_db(transaction=True)
def test_an_order_that_is_announced_as_on_the_page_is_settled(in_order):
    *_, placing = in_order
    buyer = make_customer()
    placed = check_out(api(buyer), make_cart({make_product(): 1}, buyer)).json()
    DurableTask.objects.all().delete()
    Chord.objects.all().delete()
    order = Order.objects.get(pk=placed["id"])
    placing.announce(order)
    assert Chord.objects.get().missing == DurableTask.objects.count() > 1


def test_the_signature_of_the_guide_is_the_shops():
    [verifying] = python_of("docs/guide/webhooks.md")
    secret, body = make_secret(), b'{"type": "order.created"}'
    headers = sign([secret], message_id="msg_1", timestamp=1_900_000_000, body=body)
    names = {"webhook_id": headers["webhook-id"], "webhook_timestamp": headers["webhook-timestamp"]}
    names |= {"body": body, "secret": secret, "base64": base64, "hmac": hmac}
    exec(verifying, names)
    assert headers["webhook-signature"] == f"v1,{names['wanted'].decode()}"


def test_the_quickstarts_mistake_is_one():
    [mistake] = python_of("docs/quickstart.md")
    with pytest.raises(RuntimeError, match="not today"):
        exec(mistake)


@pytest.mark.django_db(transaction=True)
def test_waiting_calls_are_handed_to_plain_celery_when_the_package_is_taken_out(monkeypatch):
    [handing_over] = python_of("docs/guide/adding-it-to-your-project.md")
    probe.make_collection.apply_async(("garden",), countdown=60)
    plain = mock.Mock()
    monkeypatch.setattr("celery.current_app", plain)
    row = DurableTask.objects.get(name="tests.make_collection")
    exec(handing_over, {})
    [call] = plain.send_task.call_args_list
    assert call.args == (row.name, ["garden"], {})
    assert call.kwargs == {"task_id": str(row.pk), "queue": row.queue, "eta": row.available_at, "expires": None}
    assert not DurableTask.objects.filter(pk=row.pk).exists()
