"""
What ``run.py`` does. It runs before anything is installed, so it imports the standard library only.

The shop itself never imports it: in production its processes are started by whatever keeps
services there.
"""
