"""
The desk is in the project's admin site. A site of your own can register the same classes.

Only code changes a task's status. People decide about dead letters and manage the queues; :mod:`celery_ledger.signals`
announces what they decide.
"""

from django.contrib import admin

from celery_ledger.contrib.admin.crew import CrewAdmin
from celery_ledger.contrib.admin.queues import QueuesAdmin
from celery_ledger.contrib.admin.tasks import DurableTaskAdmin
from celery_ledger.models import DurableTask, Heartbeat, QueueSwitch

admin.site.register(DurableTask, DurableTaskAdmin)
admin.site.register(Heartbeat, CrewAdmin)
admin.site.register(QueueSwitch, QueuesAdmin)
