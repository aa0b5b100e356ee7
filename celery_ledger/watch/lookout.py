"""
Relays that find no worker, and workers that find no relay: they report it themselves, because no task could.

Of several processes, the first by name sends the signal, every half minute while nothing changes. Whom to notify, and
how often, is up to the receivers of :data:`celery_ledger.events.processes_missing`.
"""

import threading
import time
from functools import cache
from typing import Final

from celery_ledger import databases
from celery_ledger.databases import connection
from celery_ledger.events import processes_missing
from celery_ledger.models import Heartbeat
from celery_ledger.watch import heartbeats

Kind = Heartbeat.Kind
#: Seconds between two checks, and between two signals.
INTERVAL: Final = 5.0
AGAIN_AFTER: Final = 30.0
#: Seconds without a process of the other kind until this is reported: a restart takes less.
MISSING_AFTER: Final = 20.0


class Lookout:
    """Checks, in processes of the kind ``own``, that a process of the kind ``other`` is running."""

    def __init__(self, own: Kind, other: Kind) -> None:
        self.own = own
        self.other = other
        self._missing_since: float | None = None
        self._say_next = 0.0
        self._speaker: threading.Thread | None = None

    def look(self) -> None:
        """Check once, and send the signal if a report is due; the receivers run in a thread."""
        now = time.monotonic()
        if heartbeats.at_work(self.other).exists():
            self._missing_since = None
            return
        if self._missing_since is None:
            self._missing_since = now
        if now < max(self._missing_since + MISSING_AFTER, self._say_next) or not self._is_first():
            return
        if self._speaker is None or not self._speaker.is_alive():
            self._say_next = now + AGAIN_AFTER
            self._speaker = threading.Thread(target=self._speak, name="lookout", daemon=True)
            self._speaker.start()

    def _is_first(self) -> bool:
        """Whether this process is the first running process of its kind."""
        own = heartbeats.own_name(self.own)
        return own == heartbeats.at_work(self.own).order_by("process").values_list("process", flat=True).first()

    def _speak(self) -> None:
        try:
            processes_missing.send_robust(sender=Heartbeat, kind=self.other)
        finally:
            connection.close()


def for_workers() -> None:
    """Check, in a relay, that a worker is running; see :meth:`Lookout.look`."""
    _lookout(Kind.RELAY, Kind.WORKER, databases.current()).look()


def for_relays() -> None:
    """Check, in a worker, that a relay is running; see :meth:`Lookout.look`."""
    _lookout(Kind.WORKER, Kind.RELAY, databases.current()).look()


@cache
def _lookout(own: Kind, other: Kind, _database: str) -> Lookout:
    return Lookout(own, other)
