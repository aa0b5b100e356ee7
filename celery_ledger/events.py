"""Signals that a worker sends when its work is done."""

from django.dispatch import Signal

__all__ = ["tasks_settled"]

tasks_settled = Signal()
"""
Sent by a worker once for each message, after its rows were committed, whether they succeeded or an attempt failed.

Arguments: ``subjects``, a set of the objects that the rows were about, such as ``app.model:42``.

Only a hint, and not part of any transaction: it is lost if the worker is killed. A receiver must return at once,
and touch neither the database nor the network: it delays every task.
"""
