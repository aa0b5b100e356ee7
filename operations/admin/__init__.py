"""
Operations in the admin: durable tasks and their attempts, dead letters by kind, queues, schedules.

Only the machine changes a task's status; people decide on the dead and steer the queues. What they decide is
announced, and so on record, as over the API.
"""

from operations.admin.queues import QueuesAdmin
from operations.admin.schedules import ScheduleAdmin
from operations.admin.tasks import DurableTaskAdmin

__all__ = ["DurableTaskAdmin", "QueuesAdmin", "ScheduleAdmin"]
