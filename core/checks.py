"""What ``manage.py check`` and the start of every process refuse: receivers that could be lost, or react twice."""

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from core import wiring


@register(Tags.signals)
def check_receivers(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Name each receiver of ours without a ``dispatch_uid``, that is connected twice, or that can vanish."""
    unnamed: list[CheckMessage] = [
        Error(
            f"A receiver is connected without a dispatch_uid: {line}.",
            hint="Imported twice, it would react twice. Connect it in ready() with a dispatch_uid.",
            id="core.E001",
        )
        for line in wiring.unnamed()
    ]
    repeated: list[CheckMessage] = [
        Error(
            f"A receiver is connected twice: {line}.",
            hint="It reacts to everything twice. Connect it once, under one dispatch_uid.",
            id="core.E002",
        )
        for line in wiring.repeated()
    ]
    nested: list[CheckMessage] = [
        Error(
            f"A receiver is no function of a module: {line}.",
            hint="Signals keep weak references: it can vanish. Define it at the top level of receivers.py.",
            id="core.E003",
        )
        for line in wiring.nested()
    ]
    return unnamed + repeated + nested
