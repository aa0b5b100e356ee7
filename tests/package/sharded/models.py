"""What tasks leave behind."""

from django.db import models


class Effect(models.Model):
    """An effect of a task. Nothing here forbids a second one, so that a test sees it."""

    what = models.CharField(max_length=50)
    task = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.what
