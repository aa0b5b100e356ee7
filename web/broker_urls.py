"""Brokers with several addresses: URLs like ``sentinel://a:26379;sentinel://b:26379/0``."""

from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

#: Default ports.
PORTS: Final = {"sentinel": 26_379, "amqp": 5672, "amqps": 5671}


def parts(url: str) -> list[SplitResult]:
    """Return each address of ``url``, separated by semicolons as in Celery."""
    return [urlsplit(part) for part in url.split(";") if part]


def hosts(url: str) -> list[tuple[str, int]]:
    """Return the host and port of each address."""
    return [(part.hostname or "localhost", part.port or PORTS.get(part.scheme, 6379)) for part in parts(url)]


def sentinel_options(url: str) -> dict[str, Any]:
    """Return the options for the Redis behind the Sentinels of ``url``: user, password and database."""
    first = parts(url)[0]
    number = parts(url)[-1].path.strip("/")
    options = {"username": first.username, "password": first.password, "db": int(number) if number.isdigit() else None}
    return {name: value for name, value in options.items() if value not in {None, ""}}
