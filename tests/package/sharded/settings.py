"""Two databases, a broker, and the router that a sharded project has."""

import json
import os

from tests.package import desk

SECRET_KEY = "for tests only"
DEBUG = False
USE_TZ = True
DATABASES = json.loads(os.environ["SHARDS"])
LEDGER_DATABASES = os.environ.get("LEDGER_DATABASES", " ".join(DATABASES)).split()
LEDGER_RIDES = os.environ.get("LEDGER_RIDES", "1") == "1"
LEDGER_PUBLISHED_LEASE = 6
LEDGER_RUNNING_LEASE = 4
DATABASE_ROUTERS = ["tests.package.sharded.router.Shards"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "celery_ledger",
    "tests.package.sharded.apps.Sharded",
    *os.environ.get("EXTRA_APPS", "").split(),
]
TASKS = {"default": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend"}}
ALLOWED_HOSTS = ["testserver"]
STATIC_URL = "static/"
if "django.contrib.admin" in INSTALLED_APPS:
    MIDDLEWARE = desk.MIDDLEWARE
    TEMPLATES = desk.TEMPLATES
    ROOT_URLCONF = "tests.package.admin_urls"
CELERY_BROKER_URL = os.environ["BROKER_URL"]
