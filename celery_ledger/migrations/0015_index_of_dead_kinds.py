"""The index by which the dead are counted by kind and by queue, made while others write to the ledger."""

from django.db import migrations, models
from django.db.models import Q

INDEX = models.Index(
    fields=["fingerprint", "name", "completed_at", "queue"],
    condition=Q(status="dead"),
    name="ledger_dead_kinds",
)


def make(apps, schema_editor):
    statement = str(INDEX.create_sql(apps.get_model("celery_ledger", "DurableTask"), schema_editor))
    if schema_editor.connection.vendor == "postgresql":
        statement = statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
    drop(apps, schema_editor)  # One that was begun and given up.
    schema_editor.execute(statement, params=None)


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX IF EXISTS ledger_dead_kinds")


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0014_large_results")]
    atomic = False

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make, drop)],
            state_operations=[migrations.AddIndex("durabletask", INDEX)],
        ),
    ]
