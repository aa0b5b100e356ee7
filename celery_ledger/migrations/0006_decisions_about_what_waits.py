from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0005_index_of_keys_that_stand")]

    operations = [
        migrations.AddField(
            model_name="decision",
            name="reached",
            field=models.UUIDField(
                null=True, help_text="The last task done, where the tasks themselves do not show it."
            ),
        ),
        migrations.AlterField(
            model_name="decision",
            name="per_second",
            field=models.FloatField(null=True, help_text="How many become due per second; null: all at once."),
        ),
        migrations.AlterField(
            model_name="decision",
            name="reason",
            field=models.CharField(max_length=500, blank=True, help_text="Why."),
        ),
        migrations.AlterField(
            model_name="decision",
            name="selection",
            field=models.JSONField(
                default=dict,
                help_text="Which tasks; see celery_ledger.desk.dead_letters.Selection and, with a state, "
                "celery_ledger.desk.searching.Search.",
            ),
        ),
        migrations.AlterField(
            model_name="decision",
            name="until",
            field=models.DateTimeField(null=True, help_text="Tasks that died or were enqueued later are excluded."),
        ),
        migrations.AlterField(
            model_name="decision",
            name="what",
            field=models.CharField(
                max_length=7,
                choices=[
                    ("replay", "Replay"),
                    ("discard", "Discard"),
                    ("cancel", "Cancel"),
                    ("run-now", "Run Now"),
                ],
            ),
        ),
    ]
