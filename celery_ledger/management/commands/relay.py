"""``manage.py relay``: publish due tasks until stopped."""

import logging
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from celery_ledger import sqlite
from celery_ledger.management.database import told_in_one_line, wait_while_it_recovers
from celery_ledger.project import AppNotFoundError, find_app, import_tasks
from celery_ledger.relay.broker import UnsafeBrokerError
from celery_ledger.relay.relay import relay_from_settings

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Command(BaseCommand):
    help = "Publish due tasks of the ledger to the broker until stopped. Run one or more; they share the work."

    def handle(self, *args: Any, **options: Any) -> None:
        if not logger.hasHandlers():  # A project without logging settings still sees its relay's log.
            logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
        try:
            app = find_app()
        except AppNotFoundError as error:
            raise CommandError(str(error)) from None
        sqlite.write_in_line()
        with told_in_one_line():
            wait_while_it_recovers()
        app.finalize()
        import_tasks()
        relay = relay_from_settings(app)
        try:
            relay.broker.check_policy()
        except UnsafeBrokerError as error:
            raise CommandError(f"The relay cannot start: {error}") from None
        signal.signal(signal.SIGTERM, relay.stop)
        signal.signal(signal.SIGINT, relay.stop)
        logger.info("The relay is ready: window %d messages a queue, lease %g s.", relay.window, relay.lease)
        relay.run()
        logger.info("The relay has stopped.")
