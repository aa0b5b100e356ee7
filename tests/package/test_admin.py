"""The desk in an independent project: each page answers users with the permission, and its actions take effect."""

import json
import re
import subprocess
import sys

import pytest

from tests.package.project import ENVIRONMENT
from tests.processes import ROOT

pytestmark = pytest.mark.once

#: What is of the shop, or of an app that the project does not have.
SHOP = re.compile(r"shop|store\b|customer|\border\b|an order|warehouse|\b2fa\b|/api/")
#: What is drawn at random, and may spell anything: ids and tokens.
DRAWN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-z]{64}\b")


@pytest.fixture(
    scope="module",
    params=["", "django_celery_results django_celery_beat celery_ledger.contrib.beat"],
    ids=["alone", "with results and schedules"],
)
def visit(request, tmp_path_factory):
    """What a visit to each page of the desk met, and which other apps the project has."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.package.desk", tmp_path_factory.mktemp("desk"), *request.param.split()],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), request.param.split()


def test_each_page_answers_and_none_speaks_of_the_shop(visit):
    met, apps = visit
    assert len(met["operator"]) == (12 if apps else 10)
    assert set(met["operator"].values()) == {200}, met["operator"]
    for name, text in met["text"].items():
        assert not SHOP.findall(DRAWN.sub("", text.lower())), name
        assert "flower" not in text.lower(), name
    assert met["to Flower"] == 404
    assert met["styles"]
    for name in ("tasks", "queues", "dead letters"):
        assert ("Schedules</a>" in met["text"][name]) == bool(apps)
    assert "PermissionError: no key to garden" in met["text"]["dead"]
    assert "small.open_gate" in met["text"]["found"]
    assert 'aria-label="Not done: no figures' in met["text"]["queues"]
    assert ("/django_celery_results/taskresult/" in met["text"]["done"]) == bool(apps)


def test_who_may_not_look_or_decide_does_not(visit):
    met, _ = visit
    assert set(met["stranger"].values()) == {302}
    assert set(met["anybody"].values()) == {403}
    assert set(met["looker"].values()) == {200}
    assert (met["looker edits"], met["looker decides"], met["looker steers"]) == (403, 403, 403)
    assert (met["dead then"], met["paused then"]) == (4, [])


def test_what_is_decided_happens(visit):
    met, _ = visit
    assert met["statuses"] == {
        "edited": "pending",
        "replayed": "pending",
        "discarded": "cancelled",
        "cancelled": "cancelled",
        "edited and run": "succeeded",
        "discarded with its group": "cancelled",
    }
    assert met["attempts of the replayed"] == 2
    assert (met["paused"], met["resumed"]) == (["celery"], [])
    assert met["limits"] == [["celery", 3.0, 2]]
