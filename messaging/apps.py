"""Messages between users. ``notifications`` listens, and notifies their receivers."""

from django.apps import AppConfig


class MessagingConfig(AppConfig):
    name = "messaging"
