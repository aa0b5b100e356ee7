"""The settings of that project: an SQLite in a file, which an event loop's threads share with the test's own."""

SECRET_KEY = "of a test"
USE_TZ = True
INSTALLED_APPS = ["celery_ledger"]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "judged.sqlite3", "TEST": {"NAME": "judged.sqlite3"}}
}
