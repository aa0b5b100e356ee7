"""
Arguments in a row, as the caller gave them.

A row keeps them as JSON. Types that JSON lacks, such as datetimes and UUIDs, are stored in kombu's notation.
"""

import json
from typing import Any

from kombu.utils.json import object_hook


def read(text: str) -> Any:
    """Return the value of a row's JSON."""
    return json.loads(text, object_hook=_revived) if '"__type__"' in text else json.loads(text)


def revived(value: Any) -> Any:
    """Return plain JSON with kombu's types restored."""
    if isinstance(value, dict):
        return _revived({name: revived(inner) for name, inner in value.items()})
    return [revived(inner) for inner in value] if isinstance(value, list) else value


def _revived(found: dict[str, Any]) -> Any:
    try:
        return object_hook(found)
    except Exception:  # noqa: BLE001 - a dictionary of the caller's, which only looks like one of kombu's
        return found
