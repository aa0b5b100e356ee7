"""The dashboard and the alerts in ``deploy/`` use only metrics that ``/metrics`` has."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from django.test import Client

from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask, Heartbeat, Tally
from celery_ledger.rows import tally
from celery_ledger.testing import drain
from celery_ledger.watch import heartbeats, samples
from tests import probe
from tests.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
RULES = ROOT / "deploy" / "prometheus-rules.yml"
CASES = ROOT / "deploy" / "prometheus-rules.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
#: What a database other than PostgreSQL has none of.
OF_POSTGRESQL = {"celery_ledger_database_connections", "celery_ledger_database_connections_max"}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions():
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*asked, *(rule["expr"] for rule in rules())]


@pytest.fixture
def said():
    """The names and labels of all that ``/metrics`` says of a shop in which something happened."""
    probe.make_collection.delay("a")
    probe.give_up.delay("permanent")
    probe.give_up.delay("other")
    drain()
    probe.make_collection.delay("b")
    tally.add(Tally.Outcome.PUBLISHED, [tally.Count("default", "tests.make_collection", 2, 1)])
    samples.take(dict.fromkeys(samples.queue_names(), 0))
    heartbeats.beat(Heartbeat.Kind.RELAY)
    Client().get("/health/live/")
    assert DurableTask.objects.filter(status="dead").exists()
    assert dead_letters.groups()
    found = {}
    for name, labels in re.findall(
        r"^((?:celery_ledger|shopwire)_\w+)(?:\{(.*)\})? ", Client().get("/metrics").text, re.MULTILINE
    ):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels))
    return found


def test_every_series_that_is_asked_for_is_there(said):
    for expression in expressions():
        for name, labels in re.findall(r"((?:celery_ledger|shopwire)_\w+)(?:\{([^}]*)\})?", expression):
            assert name in said or name in OF_POSTGRESQL, f"{name} in {expression}"
            for label in re.findall(r"(\w+)(?:=|!)", labels):
                assert label in said[name], f"{label} of {name} in {expression}"


def test_every_alert_says_what_it_means_and_the_runbook_says_what_to_do():
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 10
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith((".", "?"))
        assert f"### {rule['alert']}\n" in runbook, rule["alert"]
        assert f'alertname="{rule["alert"]}"' in CASES.read_text(), rule["alert"]


def test_the_dashboards_panels_do_not_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", CASES)], ids=["syntax", "cases"])
def test_prometheus_itself_takes_the_rules_and_each_fires_on_what_it_is_for(command):
    checked = subprocess.run(["promtool", *map(str, command)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
