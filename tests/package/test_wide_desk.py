"""The desk, schedules and Django's own tasks of a project whose ledger is in two SQLite databases."""

import pytest

from tests.package.desk import APPS
from tests.package.shards import Shards

pytestmark = pytest.mark.once

ALIASES = ("default", "east")
OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20}
VISIT = """
import re
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
operator = Client()
operator.force_login(User.objects.filter(is_superuser=True).first() or User.objects.create_superuser('operator'))
for alias in databases.aliases():
    DurableTask.objects.using(alias).all().delete()
tasks = reverse('admin:celery_ledger_durabletask_changelist')
dead = reverse('admin:celery_ledger_durabletask_dead')
queues = reverse('admin:celery_ledger_queueswitch_changelist')
workers = reverse('admin:celery_ledger_heartbeat_changelist')

def text(address, **query):
    answer = operator.get(address, query)
    assert answer.status_code == 200, (address, answer.status_code)
    return answer.content.decode()

def listed(**query):
    return sorted(re.findall('field-subject">(.*?)</td>', text(tasks, **query)))

def state(id, alias):
    return DurableTask.objects.using(alias).get(pk=id).status

def row(alias, subject, **fields):
    return str(DurableTask.objects.using(alias).create(
        name='tests.package.sharded.tasks.keep', queue='celery', subject=subject, args=['a'], kwargs={}, **fields).pk)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    said = {
        alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / f"{alias}.sqlite3"), "OPTIONS": OPTIONS}
        for alias in ALIASES
    }
    apps = ["celery_ledger.contrib.admin", *APPS, "django_celery_beat", "celery_ledger.contrib.beat", "django_tasks"]
    made = Shards(folder, said, "redis://127.0.0.1:9/0", apps=apps)  # Nothing is published here.
    made.migrate()
    return made


def test_each_page_shows_the_database_that_is_chosen(project):
    seen = project.shell(
        f"""{VISIT}
first, second = row('default', 'test.row:1'), row('east', 'test.row:2')
seen = {{
    'first': listed(), 'default': listed(database='default'), 'east': listed(database='east'),
    'by id': listed(q=second), 'unknown': operator.get(tasks + '?database=west').status_code,
    'change': 'test.row:2' in text(reverse('admin:celery_ledger_durabletask_change', args=[second])),
    'pages': [f'aria-current="page">{{alias}}<' in text(page, database=alias)
              for page in (dead, queues, workers) for alias in databases.aliases()],
    'links': text(queues, database='east').count('?database=east'),
}}
operator.post(tasks + '?database=east', {{'action': 'cancel', '_selected_action': [second], 'reason': 'a test'}})
seen['cancelled'] = [state(first, 'default'), state(second, 'east')]
operator.post(queues + '?database=east', {{'queue': 'celery', 'decision': 'pause'}})
seen['paused'] = [QueueSwitch.objects.using(alias).count() for alias in databases.aliases()]
print(json.dumps(seen))"""
    )
    assert seen.pop("links") >= 5
    assert seen == {
        "first": ["test.row:1"],
        "default": ["test.row:1"],
        "east": ["test.row:2"],
        "by id": ["test.row:2"],
        "unknown": 404,
        "change": True,
        "pages": [True] * 6,
        "cancelled": ["pending", "cancelled"],
        "paused": [0, 1],
    }


def test_dead_letters_are_replayed_where_they_are(project):
    seen = project.shell(
        f"""{VISIT}
from django.utils import timezone
how = {{'status': 'dead', 'last_error': 'KeyError: 1', 'completed_at': timezone.now(), 'attempts': 1}}
ids = {{alias: [row(alias, 'test.row:3', **how) for _ in range(2)] for alias in databases.aliases()}}
edit = operator.post(reverse('admin:celery_ledger_durabletask_edit', args=[ids['east'][0]]),
                     {{'args': '["b"]', 'kwargs': '{{}}'}})
edited = state(ids['east'][0], 'east')
group = operator.get(dead + '?database=east').context_data['groups'][0].fingerprint
there = operator.post(dead + '?database=east', {{'fingerprint': group, 'decision': 'replay'}})
print(json.dumps([edited, there['Location'], {{a: [state(id, a) for id in own] for a, own in ids.items()}}]))"""
    )
    edited, there, states = seen
    assert edited == "pending"
    assert there.endswith("?database=east")
    assert states == {"default": ["dead", "dead"], "east": ["pending", "pending"]}


def test_a_canvas_is_shown_and_cancelled_where_it_is(project):
    seen = project.shell(
        f"""{VISIT}
id = chain(same.si(1), same.si(2)).apply_async(using='east', countdown=60).parent.id
canvas = DurableTask.objects.using('east').get(pk=id).canvas
page = reverse('admin:celery_ledger_durabletask_canvas', args=[canvas])
seen = text(page).count('canvas-node')
operator.post(page, {{'reason': 'a test'}})
print(json.dumps([seen > 0, state(id, 'east')]))"""
    )
    assert seen == [True, "cancelled"]


def test_a_result_of_djangos_own_is_found_in_either(project):
    seen = project.shell(
        """
from tests.package.sharded.djangos import double
found = []
for alias in databases.aliases():
    with transaction.atomic(alias):
        id = double.enqueue(2).id
    found.append([DurableTask.objects.using(alias).filter(pk=id).exists(), str(double.get_result(id).status)])
print(json.dumps(found))"""
    )
    assert seen == [[True, "READY"], [True, "READY"]]


@pytest.mark.parametrize("first", ["default", "east"])
def test_beat_works_with_the_ledger_of_the_schedules_database(project, first):
    """Whichever database is the first of the setting."""
    project.environment["LEDGER_DATABASES"] = " ".join(sorted(ALIASES, key=lambda alias: alias != first))
    seen = project.shell(
        """
from datetime import timedelta
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from celery_ledger.contrib.beat import timetable
from celery_ledger.contrib.beat.schedule import LedgerScheduler
PeriodicTask.objects.all().delete()
for alias in databases.aliases():
    DurableTask.objects.using(alias).all().delete()
    Heartbeat.objects.using(alias).all().delete()
every, _ = IntervalSchedule.objects.get_or_create(every=1, period='hours')
PeriodicTask.objects.create(name='hourly', task=same.name, args='[1]', interval=every,
                            last_run_at=timezone.now() - timedelta(hours=2))
LedgerScheduler(app=keep.app, lazy=True).tick()
[shown] = [each for each in timetable.schedules() if each.name == 'hourly']
rows = {alias: DurableTask.objects.using(alias).filter(name=same.name).count() for alias in databases.aliases()}
beats = {alias: Heartbeat.objects.using(alias).count() for alias in databases.aliases()}
print(json.dumps([rows, beats, [run.status for run in shown.runs]]))"""
    )
    del project.environment["LEDGER_DATABASES"]
    assert seen == [{"default": 1, "east": 0}, {"default": 1, "east": 0}, ["pending"]]
