"""
The implementation of ``run.py``. It runs before any installation, so it imports only the standard library.

The shop itself never imports it: in production, the service manager there starts its processes.
"""
