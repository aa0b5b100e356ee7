"""The app of the project."""

from django.apps import AppConfig


class Sharded(AppConfig):
    name = "tests.package.sharded"
    label = "sharded"
