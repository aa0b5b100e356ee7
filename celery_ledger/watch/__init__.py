"""Monitoring: running processes, and problems."""
