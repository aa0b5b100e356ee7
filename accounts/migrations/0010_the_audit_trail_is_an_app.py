"""From here on, the model of the audit trail belongs to ``audit_trail``. The table keeps its rows and its trigger."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("core", "0009_sign_ins")]
    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="AuditEntry")]),
    ]
