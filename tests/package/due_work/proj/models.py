from django.db import models


class Effect(models.Model):
    """What a task did in the database."""

    what = models.CharField(max_length=80)

    def __str__(self):
        return self.what
