"""The index of rows that a rate holds back, made while others write to the ledger."""

from django.db import migrations, models
from django.db.models import Q

INDEX = models.Index(
    fields=["name", "priority", "held_since", "id"],
    condition=Q(status="pending", held_since__isnull=False),
    name="ledger_held",
)


def make(apps, schema_editor):
    statement = str(INDEX.create_sql(apps.get_model("celery_ledger", "DurableTask"), schema_editor))
    if schema_editor.connection.vendor == "postgresql":
        statement = statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
    drop(apps, schema_editor)  # One that was begun and given up.
    schema_editor.execute(statement, params=None)


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX IF EXISTS ledger_held")


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0011_rates_of_tasks")]
    atomic = False

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make, drop)],
            state_operations=[migrations.AddIndex("durabletask", INDEX)],
        ),
    ]
