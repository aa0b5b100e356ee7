"""What users write to each other. Their notifications are the business of ``notifications``, which listens."""

from django.apps import AppConfig


class MessagingConfig(AppConfig):
    name = "messaging"
