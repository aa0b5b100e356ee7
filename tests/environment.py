"""Set before anything reads the settings; named in pyproject.toml."""

import os

os.environ.setdefault("DEBUG", "1")
# As in production, also where `run.py` was started before and has left its own settings in var/run.env.
os.environ.setdefault("WEBHOOKS_TO_LOCALHOST", "0")
