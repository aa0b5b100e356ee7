"""The index of what was called together, made while others write to the ledger."""

from django.db import migrations, models

INDEX = models.Index(fields=["canvas"], condition=models.Q(canvas__isnull=False), name="ledger_canvas")


def make(apps, schema_editor):
    statement = str(INDEX.create_sql(apps.get_model("celery_ledger", "DurableTask"), schema_editor))
    if schema_editor.connection.vendor == "postgresql":
        statement = statement.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1)
    drop(apps, schema_editor)  # One that was begun and given up.
    schema_editor.execute(statement, params=None)


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX IF EXISTS ledger_canvas")


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0008_canvas")]
    atomic = False

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make, drop)],
            state_operations=[migrations.AddIndex("durabletask", INDEX)],
        ),
    ]
