"""The contenders, one module each. They import nothing but Contender, so that the settings can read them."""

from importlib import import_module

from bench.contender import Contender

NAMES = (
    "shopwire",
    "shopwire_unprepared",
    "shopwire_three_queues",
    "shopwire_unbatched",
    "shopwire_ordinary",
    "shopwire_outside",
    "celery_on_commit",
    "celery_on_commit_tuned",
    "celery_on_commit_prepared",
    "celery_delay",
    "celery_on_commit_results",
    "django_celery_outbox",
    "procrastinate",
    "dramatiq",
    "huey",
)
#: Those of bench/chaos.py: one of the above each, with a receiver that fails.
IN_CHAOS = ("shopwire_in_chaos", "celery_in_chaos", "celery_acks_late_in_chaos", "django_celery_outbox_in_chaos")


def load(name: str) -> Contender:
    """Return the contender of that name."""
    if name not in NAMES + IN_CHAOS:
        raise SystemExit(f"There is no contender {name!r}; there are {', '.join(NAMES)}.")
    contender: Contender = import_module(f"bench.contenders.{name}").CONTENDER
    return contender
