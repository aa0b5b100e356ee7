"""
django-celery-results' own tests, plain and beside the package: ``make foreign-results``.

As ``foreign_beat``, of which this takes the plugin. Their settings name a PostgreSQL at localhost with the user
postgres, by a driver for PyPy; a module of that name has them take the one that is here.
"""

import shutil
import sys
import tarfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.package.foreign_beat import PINNED, PLUGIN, count, run
from tests.processes import ROOT

FOLDER = ROOT / "var" / "foreign-results"
PAGE = ROOT / "docs" / "reference" / "foreign-results.md"
RESULTS = f"django-celery-results=={version('django-celery-results')}"
#: What its own ``requirements`` ask for.
TOOLS = ["pytest<8", "pytest-django<5", "pytest-benchmark", "pytz", "psycopg[binary]"]
SETTINGS = """
from t.proj.settings import *

INSTALLED_APPS += ["celery_ledger"]
"""
DRIVER = """
class compat:
    @staticmethod
    def register():
        pass
"""


def prepare() -> tuple[Path, Path]:
    """Return an environment's interpreter, and the folder with the tests."""
    shutil.rmtree(FOLDER / "source", ignore_errors=True)
    (FOLDER / "source").mkdir(parents=True)
    python = FOLDER / "venv" / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", "--without-pip", FOLDER / "venv").check_returncode()
    pip = sys.executable, "-m", "pip", "--python", python
    run(*pip, "install", "-q", RESULTS, *PINNED, *TOOLS).check_returncode()
    run(*pip, "install", "-q", "--no-deps", "--force-reinstall", ROOT).check_returncode()
    download = [*pip, "download", "-q", "--no-deps", "--no-binary", ":all:", "--dest", FOLDER, RESULTS]
    run(*download).check_returncode()
    [archive] = FOLDER.glob(f"django*celery*results-{version('django-celery-results')}.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(FOLDER / "source", filter="data")
    [source] = (FOLDER / "source").iterdir()
    (source / "t" / "proj" / "ledger_settings.py").write_text(SETTINGS)
    (source / "ledger_plugin.py").write_text(PLUGIN)
    (source / "psycopg2cffi.py").write_text(DRIVER)
    return python, source


def main() -> int:
    python, source = prepare()
    plain, failed_plain = count(python, source, "--create-db", "t/unit")
    options = ("--create-db", "--ds=t.proj.ledger_settings", "-p", "ledger_plugin", "t/unit")
    beside, failed_beside = count(python, source, *options)
    lines = [
        "| Tests of django-celery-results | Passed |",
        "| --- | --- |",
        f"| plain | {plain} |",
        f"| beside the package | {beside} |",
    ]
    print(*lines, *sorted(failed_plain ^ failed_beside), sep="\n")
    names = ", ".join(requirement.replace("==", " ") for requirement in (RESULTS, *PINNED))
    PAGE.write_text(
        "# django-celery-results' own tests\n\n"
        "What `make foreign-results` found when it was last run: the unit tests of the source distribution, as they\n"
        "are, and with `celery_ledger` among the apps and `celery_ledger:Task` as the class of tasks of every app.\n"
        f"{'The same tests fail in both.' if failed_plain == failed_beside else 'Different tests fail.'}\n\n"
        f"Run on {datetime.now(tz=UTC):%-d %B %Y}, with {names}, Python {'.'.join(map(str, sys.version_info[:2]))}.\n\n"
        + "\n".join(lines)
        + "\n"
    )
    return int(bool(failed_beside - failed_plain))


if __name__ == "__main__":
    sys.exit(main())
