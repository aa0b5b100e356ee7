"""
On PostgreSQL, audit entries over thirty days old may be deleted by a transaction that asks for it.

Younger entries may not be deleted, and none may be changed. The schedule does nothing while AUDIT_RETENTION_DAYS is not
set.
"""

from django.db import migrations

BY_ROW = """
    CREATE OR REPLACE FUNCTION core_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF current_setting('shopwire.prune_audit_trail', true) = 'on' AND OLD.at < now() - interval '30 days' THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'The audit trail is only ever added to.' USING ERRCODE = 'insufficient_privilege';
    END $$;
    DROP TRIGGER audit_trail_is_append_only ON core_auditentry;
    CREATE TRIGGER audit_trail_is_append_only BEFORE UPDATE OR DELETE ON core_auditentry
        FOR EACH ROW EXECUTE FUNCTION core_refuse_change();
"""
BY_STATEMENT = """
    CREATE OR REPLACE FUNCTION core_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'The audit trail is only ever added to.' USING ERRCODE = 'insufficient_privilege';
    END $$;
    DROP TRIGGER audit_trail_is_append_only ON core_auditentry;
    CREATE TRIGGER audit_trail_is_append_only BEFORE UPDATE OR DELETE ON core_auditentry
        FOR EACH STATEMENT EXECUTE FUNCTION core_refuse_change();
"""


def by_row(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(BY_ROW)


def by_statement(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(BY_STATEMENT)


def seed(apps, schema_editor):
    crontabs = apps.get_model("django_celery_beat", "CrontabSchedule").objects
    crontab, _ = crontabs.get_or_create(
        minute="20", hour="4", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    schedule, _ = apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name="Prune the audit trail", defaults={"task": "core.tasks.prune_audit_trail", "crontab": crontab}
    )
    apps.get_model("worker", "SchedulePolicy").objects.get_or_create(
        schedule=schedule, defaults={"catch_up": "once", "alert_after": 0}
    )


class Migration(migrations.Migration):
    dependencies = [("core", "0007_login_failures"), ("worker", "0003_schedule_policies")]
    operations = [
        migrations.RunPython(by_row, by_statement),
        migrations.RunPython(seed, migrations.RunPython.noop),
    ]
