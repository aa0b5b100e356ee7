"""The index of what is scheduled or tried again later, made while others write to the ledger."""

from django.db import migrations, models
from django.db.models import F, Q

INDEX = models.Index(
    fields=["available_at", "id"],
    condition=Q(status="pending", available_at__gt=F("created_at")),
    name="ledger_later",
)


def make(apps, schema_editor):
    concurrently = {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}
    drop(apps, schema_editor)  # One that was begun and given up.
    statement = INDEX.create_sql(apps.get_model("celery_ledger", "DurableTask"), schema_editor, **concurrently)
    schema_editor.execute(statement, params=None)


def drop(apps, schema_editor):
    schema_editor.execute("DROP INDEX IF EXISTS ledger_later")


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0006_decisions_about_what_waits")]
    atomic = False

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(make, drop)],
            state_operations=[migrations.AddIndex("durabletask", INDEX)],
        ),
    ]
