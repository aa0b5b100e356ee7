"""Paths that the launcher uses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
LOGS = VAR / "log"
VENV = ROOT / ".venv"
#: What the catcher of webhooks checks signatures with; seed_demo writes it.
CATCHER_SECRET = VAR / "catcher.secret"
PYTHON = VENV / "bin" / "python"
