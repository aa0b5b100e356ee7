"""A project that sets nothing but its services; both apps, the durable one and plain Celery's, are of it."""

import os

SECRET_KEY = "not secret"
DEBUG = True  # Or armed faults would be refused.
USE_TZ = True
INSTALLED_APPS = ["proj", "celery_ledger"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["HARNESS_DATABASE"],
        "HOST": os.environ["HARNESS_HOST"],
        "PORT": os.environ["HARNESS_PORT"],
        "USER": os.environ["HARNESS_USER"],
        "PASSWORD": os.environ["HARNESS_PASSWORD"],
        # The harness and the processes that it kills see one database.
        "TEST": {"NAME": os.environ["HARNESS_DATABASE"]},
    }
}
CELERY_BROKER_URL = os.environ["HARNESS_REDIS"]
TASKS = {"default": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend"}}
