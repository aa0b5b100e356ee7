"""``manage.py relay``: publish due tasks until stopped."""

import logging
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from celery_ledger import databases, sqlite
from celery_ledger.management.database import told_in_one_line, wait_while_it_recovers
from celery_ledger.project import AppNotFoundError, find_app, import_tasks
from celery_ledger.relay.broker import UnsafeBrokerError
from celery_ledger.relay.relay import Relay, relay_from_settings

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Command(BaseCommand):
    help = "Publish due tasks of the ledger to the broker until stopped. Run one or more; they share the work."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database",
            action="append",
            choices=databases.aliases(),
            help="Serve this alias of LEDGER_DATABASES only; may be repeated. Default: all of them.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not logger.hasHandlers():  # A project without logging settings still sees its relay's log.
            logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
        try:
            app = find_app()
        except AppNotFoundError as error:
            raise CommandError(str(error)) from None
        sqlite.write_in_line()
        aliases = options["database"] or databases.aliases()
        if len(aliases) == 1:  # Of several, one that is away must not keep the others waiting.
            with databases.using(aliases[0]), told_in_one_line():
                wait_while_it_recovers()
        app.finalize()
        import_tasks()
        relays = {}
        for alias in aliases:
            with databases.using(alias):
                relays[alias] = relay_from_settings(app)
        relay = relays[aliases[0]]
        try:
            relay.broker.check_policy()
        except UnsafeBrokerError as error:
            raise CommandError(f"The relay cannot start: {error}") from None

        def stop(*_: object) -> None:
            for each in relays.values():
                each.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        logger.info("The relay is ready: window %d messages a queue, lease %g s.", relay.window, relay.lease)
        if len(relays) == 1:
            with databases.using(aliases[0]):
                relay.run()
        else:
            _run_together(relays, stop)
        logger.info("The relay has stopped.")


def _run_together(relays: dict[str, Relay], stop: Callable[[], None]) -> None:
    """
    Run the relay of each database in a thread of its own, so that each waits for its own database only.

    Raises:
        CommandError: one of them ended with an error; the others were stopped, so that a supervisor restarts all.
    """
    failed: list[str] = []

    def run(alias: str) -> None:
        try:
            with databases.using(alias):
                relays[alias].run()
        except BaseException:
            logger.exception("The relay of the database %s ended with an error.", alias)
            failed.append(alias)
            stop()

    threads = [threading.Thread(target=run, args=(alias,), name=f"relay of {alias}") for alias in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise CommandError(f"The relay of {', '.join(failed)} ended with an error.")
