"""Time spans in people's notation: 90s, 15m, 6h, 7d."""

import re
from datetime import timedelta

_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: The longest time span: a hundred years.
LONGEST = timedelta(days=36_525)


def read(text: str) -> timedelta:
    """
    Return the time span that ``text`` describes.

    Raises:
        ValueError: it is not a time span, or one of more than a hundred years.
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"A span is a number and a unit, such as 90s, 15m, 6h or 7d, not {text!r}.")
    try:
        span = timedelta(**{_UNITS[match[2]]: float(match[1])})
    except OverflowError:
        span = timedelta.max
    if span > LONGEST:
        raise ValueError("A span is at most a hundred years.")
    return span
