"""On PostgreSQL, the database itself refuses changes to the audit trail, by any user. SQLite has no users."""

from django.db import migrations

REFUSE = """
    CREATE FUNCTION core_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'The audit trail is only ever added to.' USING ERRCODE = 'insufficient_privilege';
    END $$;
    CREATE TRIGGER audit_trail_is_append_only BEFORE UPDATE OR DELETE ON core_auditentry
        FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
"""
ALLOW = """
    DROP TRIGGER audit_trail_is_append_only ON core_auditentry;
    DROP FUNCTION core_refuse_change();
"""


def refuse(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(REFUSE)


def allow(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(ALLOW)


class Migration(migrations.Migration):
    dependencies = [("core", "0003_audit_trail")]
    operations = [migrations.RunPython(refuse, allow)]
