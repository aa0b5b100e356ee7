"""``manage.py serve``: the web process."""

import atexit
import logging
import os
import shutil
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection

from celery_ledger.management.database import told_in_one_line
from core import database_limits

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Serve the API, the admin and the front end. Run any number. It needs the database but no broker."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=settings.PORT, help="default: PORT")
        parser.add_argument(
            "--workers", type=int, default=settings.WEB_CONCURRENCY, help="default: WEB_CONCURRENCY, or 1"
        )
        parser.add_argument("--access-log", action="store_true", help="log every request")

    def handle(self, *args: Any, **options: Any) -> None:
        self.check_database()
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
        atexit.register(shutil.rmtree, os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
        uvicorn.run(
            "core.asgi:application",
            host=options["host"],
            port=options["port"],
            workers=options["workers"],
            lifespan="on",
            timeout_graceful_shutdown=3,  # Streams end by themselves (notifications/feed.py); this is for the rest.
            access_log=options["access_log"],
            proxy_headers=False,  # The settings say whether a proxy is to be believed: BEHIND_PROXY.
            server_header=False,
            log_config=None,  # Django's logging is already configured.
            ws_max_size=4096,  # bytes; clients send nothing there.
        )

    def check_database(self) -> None:
        """Raise CommandError unless the database answers."""
        with told_in_one_line():
            connection.ensure_connection()
            lacking = database_limits.lacking()
        if lacking:
            logger.warning("PostgreSQL does not keep %s for this process; see docs/scaling.md.", ", ".join(lacking))
        connection.close()
