"""The index of keys that stand, made while others write to the ledger."""

from django.db import migrations, models
from django.db.models import Q

CONSTRAINT = models.UniqueConstraint(
    fields=["standing_key"],
    condition=Q(standing_key__isnull=False)
    & (
        Q(unique_for="pending", status="pending", published_at__isnull=True)
        | Q(unique_for="done", status__in=["pending", "published", "running"])
    ),
    name="ledger_standing_key",
)


def make(apps, schema_editor):
    statement = str(CONSTRAINT.create_sql(apps.get_model("celery_ledger", "DurableTask"), schema_editor))
    if schema_editor.connection.vendor == "postgresql":
        statement = statement.replace("CREATE UNIQUE INDEX", "CREATE UNIQUE INDEX CONCURRENTLY", 1)
    drop(apps, schema_editor)  # One that was begun and given up.
    schema_editor.execute(statement, params=None)


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX IF EXISTS ledger_standing_key")


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0004_keys_that_stand")]
    atomic = False

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make, drop)],
            state_operations=[migrations.AddConstraint("durabletask", CONSTRAINT)],
        ),
    ]
