"""
The schedule of pruning names the package's task.

Rows, counts and messages keep their names: there may be many, and processes of the last release still write them until
they are replaced. :mod:`worker.tasks` knows the old names.
"""

from django.db import migrations


def rename(apps, schema_editor):
    schedules = apps.get_model("django_celery_beat", "PeriodicTask").objects.using(schema_editor.connection.alias)
    schedules.filter(task="worker.tasks.prune").update(task="celery_ledger.tasks.prune")


class Migration(migrations.Migration):
    dependencies = [
        ("worker", "0012_the_ledger_is_a_package"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]
