"""From figures to files: results.json, table.md and plots under bench/results/<date>-<commit>/."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import plots, table
from bench.database import Database
from bench.machine import hardware
from bench.processes import ROOT
from bench.redis_server import RedisServer
from bench.size import Size

PACKAGES = (
    "celery",
    "kombu",
    "django",
    "psycopg",
    "redis",
    "hiredis",
    "django-celery-results",
    "django-celery-outbox",
    "procrastinate",
    "dramatiq",
    "huey",
)
RESULTS = Path(__file__).parent / "results"
QUICK_RESULTS = ROOT / "var" / "bench"  # not stored: they measure nothing


def begin(database: Database, broker: RedisServer, size: Size) -> dict[str, Any]:
    """Return the results' metadata: date, commit and machine."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {"python": platform.python_version()}
        | {name: found for name in PACKAGES if (found := _version(name))}
        | {"postgresql": database.value("SHOW server_version"), "redis-server": broker.version},
        "postgresql_settings": {
            name: database.value(f"SHOW {name}") for name in ("synchronous_commit", "fsync", "shared_buffers")
        },
        "size": size.__dict__,
        "load_average_before": os.getloadavg()[0],
        "rounds": [],
    }


def line(figures: dict[str, Any]) -> str:
    """Return a turn's main figures on one line."""
    shown = {
        "order p50": ("order_p50_ms", "ms"),
        "drain": ("drain_effects_per_s", "/s"),
        "live": ("live_effects_per_s", "/s"),
        "CPU": ("live_cpu_s_per_1k", "s/1k"),
        "lag p50": ("lag_p50_ms", "ms"),
        "under load": ("load_lag_p50_ms", "ms"),
    }
    parts = [
        f"{label} {figures[key]:.4g} {unit}" for label, (key, unit) in shown.items() if figures.get(key) is not None
    ]
    return f"  {', '.join(parts)}; {figures['exactness']}"


def write(results: dict[str, Any], into: Path) -> Path:
    """Write everything to a new folder and return it."""
    results["load_average_after"] = os.getloadavg()[0]
    day = results["when"][:16].replace(":", "").replace("T", "-")
    folder = into / f"{day}-{results['commit']}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "table.md").write_text(table.markdown(results))
    for name, svg in plots.all_plots(results).items():
        (folder / f"{name}.svg").write_text(svg)
    return folder


def commit() -> str:
    """Name the commit, and whether the code that is measured differs from it."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit}-changed" if _git("status", "--porcelain", "celery_ledger", "worker", "core") else commit


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
