"""The orders of a real shop, from its published export: a tool that loads and replays them, not a part of the shop."""

from django.apps import AppConfig


class RetailConfig(AppConfig):
    name = "retail"
