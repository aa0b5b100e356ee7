"""Signals that processes of the ledger send outside of any transaction."""

from django.dispatch import Signal

__all__ = ["processes_missing", "tasks_settled"]

tasks_settled = Signal()
"""
Sent by a worker once for each message, after its rows were committed, whether they succeeded or an attempt failed.

Arguments: ``subjects``, a set of the objects that the rows were about, such as ``app.model:42``.

Only a hint, and not part of any transaction: it is lost if the worker is killed. A receiver must return at once,
and touch neither the database nor the network: it delays every task.
"""

processes_missing = Signal()
"""
Sent by a relay while no worker is running, and by a worker while no relay is: every 30 seconds, by one of them.

Arguments: ``kind``, of the missing processes: ``worker`` or ``relay``.

For alerts that cannot be tasks, because no task would be run. Receivers run in a thread of their own and may use the
database and the network; they decide how often a person is told. Not sent in the first 20 seconds, in which a restart
ends, nor if all relays and workers are gone: ``/health/ready/`` says so to a monitor outside.
"""
