"""``manage.py relay``: publish due tasks until stopped."""

import logging
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from worker.broker import UnsafeBrokerError
from worker.celery import app, import_tasks
from worker.management.database import told_in_one_line
from worker.relay import relay_from_settings

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Hand due tasks of the ledger to the broker until stopped. Run one or more; they share the work."

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_one_line():
            connection.ensure_connection()
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
