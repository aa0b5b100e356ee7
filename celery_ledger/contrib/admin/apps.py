"""The ledger's pages in Django's admin."""

from django.apps import AppConfig


class DeskConfig(AppConfig):
    name = "celery_ledger.contrib.admin"
    label = "celery_ledger_admin"
    verbose_name = "Desk of the ledger"
