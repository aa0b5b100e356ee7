"""Set before anything reads the settings; named in pyproject.toml."""

import os

os.environ.setdefault("DEBUG", "1")
