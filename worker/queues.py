"""
Additional queues for workers whose queues were split.

The contract's command for workers names the queues of the first release. Workers still started with it also consume
later queues: a queue that was split off goes with its original queue.
"""

from typing import Any, Final

from celery.signals import celeryd_init

#: The original queue of each queue that was split off.
SPLIT_OFF: Final = {"webhooks": "notifications"}


@celeryd_init.connect
def take_what_was_split_off(options: dict[str, Any], **kwargs: Any) -> None:
    """Add to ``-Q`` the queues split off from one of its own, except those in ``-X``."""
    wanted, unwanted = options.get("queues"), options.get("exclude_queues") or ()
    if not isinstance(wanted, list):  # All queues.
        return
    for queue, whole in SPLIT_OFF.items():
        if whole in wanted and queue not in wanted and queue not in unwanted:
            wanted.append(queue)
