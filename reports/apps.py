"""Sales reports: a day's sales as a mail to managers, daily and on demand."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"
