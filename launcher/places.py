"""Paths that the launcher uses."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
LOGS = VAR / "log"
VENV = ROOT / ".venv"
#: The secret with which the webhook catcher checks signatures; seed_demo writes it.
CATCHER_SECRET = VAR / "catcher.secret"
PYTHON = VENV / "bin" / "python"
