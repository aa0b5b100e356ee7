"""Huey on Redis, enqueued on commit: two worker processes."""

from bench.contender import MANAGE, Contender

CONTENDER = Contender(
    name="huey",
    title="huey",
    jobs="bench.jobs.huey",
    workers=((*MANAGE, "run_huey", "-w", "2", "-k", "process"),),
    settings={"HUEY": {"name": "bench", "immediate": False, "connection": {"url": "{redis}"}}},
    apps=("huey.contrib.djhuey",),
    backlog=3,
)
