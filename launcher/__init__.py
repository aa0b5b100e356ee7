"""
The implementation of ``run.py``. It runs before any installation, so it imports only the standard library.

The shop itself never imports it: in production its processes are started by whatever keeps
services there.
"""
