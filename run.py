#!/usr/bin/env python3
"""
Start Shopwire from nothing but Python: ``python3 run.py``; ``python3 run.py --help`` lists the verbs.

This file uses only syntax that old Pythons can parse, so that they can report what is missing.
Everything else is in ``launcher/``.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit("Shopwire needs Python 3.11 or newer, and this is %d.%d: start it as `python3.11 run.py`, "
             "or install a newer Python first." % sys.version_info[:2])  # fmt: skip
if os.name != "posix":
    sys.exit("Shopwire's launcher runs on Linux and macOS; on Windows, start it inside WSL.")

from launcher.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
