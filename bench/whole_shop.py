"""The shop itself in its own settings, for the benchmarks that call it over HTTP."""

from bench.database import Database
from bench.redis_server import RedisServer


def environment(database: Database, broker: RedisServer) -> dict[str, str]:
    """Return the environment of the shop's processes, as in production except for HTTPS."""
    return {
        "DEBUG": "0",
        "HTTPS": "0",
        "SECRET_KEY": "only-for-the-bench-" * 3,
        "ALLOWED_HOSTS": "127.0.0.1",
        "DATABASE_URL": database.url,
        "REDIS_URL": broker.url,
        "DJANGO_SETTINGS_MODULE": "core.settings",
    }
