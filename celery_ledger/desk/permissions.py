"""The permissions for operators' actions; the models declare them."""

from typing import Final

REPLAY: Final = "celery_ledger.replay_durabletask"
DISCARD: Final = "celery_ledger.discard_durabletask"
CANCEL: Final = "celery_ledger.cancel_durabletask"
EDIT: Final = "celery_ledger.change_durabletask"
STEER: Final = "celery_ledger.change_queueswitch"
