#!/usr/bin/env python3
"""Django's command line for Shopwire."""

import os
import sys

try:
    from django.core.management import execute_from_command_line
except ImportError:
    sys.exit(
        f"{sys.executable} has no Django. Use this project's own Python: .venv/bin/python manage.py "
        f"{' '.join(sys.argv[1:])}\nIf there is no .venv yet, python3 run.py creates it."
    )

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    execute_from_command_line(sys.argv)
