"""What makes the tasks of Celery's own integration suite durable; see ``tests/package/celery_suite.py``."""
