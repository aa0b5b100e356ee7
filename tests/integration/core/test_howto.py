"""The code in the documentation works as written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
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
