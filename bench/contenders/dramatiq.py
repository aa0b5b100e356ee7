"""Dramatiq on Redis, sent on commit: two processes of one thread."""

from bench.contender import PYTHON, Contender

CONTENDER = Contender(
    name="dramatiq",
    title="dramatiq",
    jobs="bench.jobs.dramatiq",
    workers=((PYTHON, "-m", "dramatiq", "bench.jobs.dramatiq", "-p", "2", "-t", "1"),),
    backlog=2,
)
