from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0003_results")]

    operations = [
        migrations.AddField(
            model_name="durabletask",
            name="unique_until",
            field=models.DateTimeField(
                null=True, blank=True, help_text="When another call may take its unique_key."
            ),
        ),
        migrations.AddField(
            model_name="durabletask",
            name="standing_key",
            field=models.CharField(
                max_length=255, null=True, blank=True, help_text="A key that it holds for the time set by unique_for."
            ),
        ),
        migrations.AddField(
            model_name="durabletask",
            name="unique_for",
            field=models.CharField(
                max_length=7, choices=[("pending", "Pending"), ("done", "Done")], null=True, blank=True
            ),
        ),
    ]
