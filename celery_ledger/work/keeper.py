"""A claim on a row, prolonged while its body runs."""

import logging
import threading

from django.db import connection

from celery_ledger.rows import ledger

logger = logging.getLogger(__name__)

#: Seconds between two attempts to prolong a claim where one failed.
RETRY_PAUSE = 0.5


class LeaseKeeper:
    """
    Renews a claim while its body runs, from a thread, so that the lease can be short.

    The thread opens a database connection only if the body is still running after a third of the
    lease. A renewal that fails is tried again as long as the body runs, whatever the reason. A stopped
    process renews nothing: its work is taken over, and fenced off when it wakes.
    """

    def __init__(self, row: ledger.Started, lease: float) -> None:
        self.row = row
        self.lease = lease
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {row.id}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        pause = self.lease / 3
        while not self._done.wait(pause):
            try:
                held = ledger.renew(self.row, lease=self.lease)
            except Exception as error:  # noqa: BLE001 - whatever it was: without its claim the effect happens twice
                logger.warning("The claim on %s %s could not be renewed: %r", self.row.name, self.row.id, error)
                pause = min(self.lease / 3, RETRY_PAUSE)
            else:
                pause = self.lease / 3
                if not held:
                    logger.warning("The claim on %s %s is lost: cancelled or taken over.", self.row.name, self.row.id)
                    break
            finally:
                connection.close()
