"""
Measures the desk's calls and the admin's pages on ten million rows, 100,000 of them dead: ``make desk-speed``.

``DATABASE_URL`` names a PostgreSQL database of its own, whose name ends in ``_large``. It is migrated, and filled where
it is empty. Each call is made five times by Django's test client; the median counts. Then what one viewer of the live
page costs the database is read from the CPU time of its backend, which takes a server on this machine. Exits 1 where a
call takes longer than a fifth of a second, or a viewer a hundredth of a core.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROWS = 10_000_000
TIMES = 5
MOST = 0.2  # seconds
FILL = """
    INSERT INTO celery_ledger_durabletask (id, name, queue, status, args, kwargs, attempts, subject, request_id,
        created_at, available_at, published_at, completed_at, last_error, fingerprint, lapses, priority)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3)
            || '8' || substr(md5(i::text), 4, 15))::uuid,
        'large.task_' || i %% 20, 'default',
        CASE WHEN i %% 100 = 0 THEN 'dead' WHEN i %% 1000 = 1 THEN 'pending' WHEN i %% 500 = 2 THEN 'cancelled'
            ELSE 'succeeded' END,
        jsonb_build_array(i), jsonb_build_object('order_id', i %% 100000),
        CASE WHEN i %% 2000 = 1 THEN 2 WHEN i %% 1000 = 1 THEN 0 ELSE 1 END,
        'store.order:' || i %% 1000000, 'req-' || i %% 3000000, at,
        CASE WHEN i %% 1000 = 1 THEN now() + i * interval '1 millisecond' ELSE at END,
        CASE WHEN i %% 1000 <> 1 THEN at + interval '10 ms' END,
        CASE WHEN i %% 1000 <> 1 THEN at + interval '40 ms' END,
        CASE WHEN i %% 100 = 0 THEN 'OSError: order ' || i || ' was refused' ELSE '' END,
        CASE WHEN i %% 100 = 0 THEN 'abcdef' ELSE '' END, 0, 5
    FROM (SELECT i, now() - (%(rows)s - i) * interval '50 milliseconds' AS at
        FROM generate_series(1, %(rows)s) AS i) AS s
"""
CALLS = (
    "tasks/",
    "tasks/?status=dead",
    "tasks/?status=retrying",
    "tasks/?status=scheduled",
    "tasks/?status=pending",
    "tasks/?status=succeeded&task=large.task_7",
    "tasks/?status=cancelled",
    "tasks/?q=%2342",
    "tasks/?request_id=req-1",
    "tasks/?argument=order_id%3D5",
    "tasks/?status=dead&argument=order_id%3D500",
    "tasks/?status=dead&error=order+777700",
    "tasks/?slower_than=1h",
    "tasks/?older_than=5d",
    "failing/",
    "problems/",
    "queues/",
    "series/",
    "dead/",
    "dead/groups/",
    "decisions/",
    "limits/",
    "processes/",
    "schedules/",
)
#: The admin's pages, below /admin/celery_ledger/.
PAGES = (
    "durabletask/",
    "durabletask/?p=3",
    "durabletask/?status__exact=dead",
    "durabletask/?status__exact=succeeded&name=large.task_7",
    "durabletask/?queue=default",
    "durabletask/?q=store.order:42",
    "durabletask/?q=order+777700",
    "durabletask/?q=large.task_7",
    "durabletask/dead/",
    "queueswitch/",
)
#: What the live page asks for, and every how many seconds; see frontend/src/pages/Operations.tsx.
LIVE = {
    "queues/?page_size=100": 4,
    "dead/groups/?page_size=100": 4,
    "decisions/": 2,
    "problems/?page_size=100": 10,
    "failing/?page_size=100": 10,
    "figures/": 10,
    "series/": 30,
}
#: The most of a core that a viewer may cost the database.
MOST_OF_A_CORE = 0.01


def main() -> int:
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection
    from rest_framework.test import APIClient

    from celery_ledger.models import DurableTask

    if connection.vendor != "postgresql" or not str(connection.settings_dict["NAME"]).endswith("_large"):
        sys.exit("DATABASE_URL must name a PostgreSQL database whose name ends in _large.")
    call_command("migrate", verbosity=0)
    if not DurableTask.objects.exists():
        with connection.cursor() as cursor:
            cursor.execute(FILL, {"rows": ROWS})
            cursor.execute("VACUUM ANALYZE celery_ledger_durabletask")
    admin, _ = get_user_model().objects.get_or_create(username="large", is_staff=True, is_superuser=True)
    client = APIClient()
    client.force_login(admin)
    task = DurableTask.objects.filter(status="dead").order_by("completed_at").first()
    slow = 0
    calls = [f"/api/ops/{call}" for call in (*CALLS, f"tasks/{task.pk}/" if task else "tasks/")]
    calls += [f"/admin/celery_ledger/{page}" for page in (*PAGES, f"durabletask/{task.pk}/change/" if task else "")]
    for call in calls:
        took = []
        for _ in range(TIMES):
            began = time.perf_counter()
            answer = client.get(call, headers={"host": "localhost"})
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, (call, answer.status_code, answer.content)
        median = statistics.median(took)
        slow += median > MOST
        print(f"{median * 1000:7.0f} ms  {'SLOW  ' if median > MOST else '      '}{call}", flush=True)
    share = sum(cpu_of(client, f"/api/ops/{call}") / every for call, every in LIVE.items())
    print(f"{share:7.2%} of a core of the database for each viewer of the live page")
    return 1 if slow or share > MOST_OF_A_CORE else 0


def cpu_of(client: Any, call: str, *, times: int = 100) -> float:
    """Return the seconds of CPU that the database's backend spends on a call."""
    before = backend_seconds()
    for _ in range(times):
        assert client.get(call, headers={"host": "localhost"}).status_code == 200
    return (backend_seconds() - before) / times


def backend_seconds() -> float:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
