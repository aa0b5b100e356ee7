"""The smallest project that has the package. ``SUITE_DATABASE`` is its database, as Django takes it."""

import json
import os

SECRET_KEY = "of no importance"
INSTALLED_APPS = ["celery_ledger"]
DATABASES = {"default": json.loads(os.environ["SUITE_DATABASE"])}
USE_TZ = True
