"""Autovacuum that suits a table whose every row is updated twice, and the schedule of pruning."""

from django.db import migrations

AUTOVACUUM = """
    ALTER TABLE worker_durabletask SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
        autovacuum_analyze_scale_factor = 0.02
    )
"""


def tune_autovacuum(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(AUTOVACUUM)


def schedule_pruning(apps, schema_editor):
    crontab, _ = apps.get_model("django_celery_beat", "CrontabSchedule").objects.get_or_create(
        minute="30", hour="3", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name="Prune the ledger", defaults={"task": "worker.tasks.prune", "crontab": crontab}
    )


class Migration(migrations.Migration):
    dependencies = [
        ("worker", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [
        migrations.RunPython(tune_autovacuum, migrations.RunPython.noop),
        migrations.RunPython(schedule_pruning, migrations.RunPython.noop),
    ]
