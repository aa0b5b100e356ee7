"""What ``manage.py check`` and the start of every process refuse: receivers that could be lost, or react twice."""

from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, register

from core import wiring

#: What finds the receivers that are wrong, what is wrong with them, and what to do.
FLAWS: Final = (
    (
        "core.E001",
        wiring.unnamed,
        "is connected without a dispatch_uid",
        "Imported twice, it would react twice. Connect it in ready() with a dispatch_uid.",
    ),
    (
        "core.E002",
        wiring.repeated,
        "is connected twice",
        "It reacts to everything twice. Connect it once, under one dispatch_uid.",
    ),
    (
        "core.E003",
        wiring.nested,
        "is no function of a module",
        "Signals keep weak references: it can vanish. Define it at the top level of receivers.py.",
    ),
)


@register(Tags.signals)
def check_receivers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Name each receiver of ours without a ``dispatch_uid``, that is connected twice, or that can vanish."""
    return [Error(f"A receiver {flaw}: {line}.", hint=hint, id=id) for id, find, flaw, hint in FLAWS for line in find()]
