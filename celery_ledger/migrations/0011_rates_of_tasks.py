from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0010_paces")]

    operations = [
        migrations.AddField(
            model_name="durabletask",
            name="held_since",
            field=models.DateTimeField(
                null=True, blank=True, help_text="Its due time, if its task's rate limit holds it back."
            ),
        ),
        migrations.CreateModel(
            name="TaskRate",
            fields=[
                (
                    "name",
                    models.CharField(max_length=255, primary_key=True, serialize=False, help_text="The task's."),
                ),
                (
                    "said",
                    models.CharField(
                        max_length=64,
                        null=True,
                        blank=True,
                        help_text="Overrides the task's own rate_limit; 0: no limit.",
                    ),
                ),
                ("allowance", models.FloatField(default=1, editable=False, help_text="Tasks allowed at counted_at.")),
                ("counted_at", models.DateTimeField(db_default=Now(), editable=False)),
            ],
        ),
    ]
