"""Schedules: each due time is enqueued once."""
