from proj.settings import *  # noqa: F403

INSTALLED_APPS += ["django_celery_results"]  # noqa: F405
CELERY_RESULT_BACKEND = "django-db"
