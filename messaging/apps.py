"""What people write to each other. Nobody is told here that something came: notifications listens."""

from django.apps import AppConfig


class MessagingConfig(AppConfig):
    name = "messaging"
