"""The model of the audit trail is audit_trail's from here on. The table stays as it is, rows, trigger and all."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("core", "0009_sign_ins")]
    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="AuditEntry")]),
    ]
