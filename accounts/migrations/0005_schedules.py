"""The shop's schedules. An existing schedule of the same name is not changed."""

from django.db import migrations

#: Name, task, minute and hour in UTC, the policy for missed runs, and the seconds after which managers are notified
#: that it is late (0: never).
SCHEDULES = [
    ("Daily sales report", "core.tasks.send_daily_reports", "0", "6", "all", 900),
    ("Low-stock sweep", "notifications.tasks.sweep_low_stock", "0", "7", "once", 900),
    ("Drop abandoned carts", "store.tasks.drop_abandoned_carts", "10", "3", "once", 0),
    ("Prune idempotency keys", "store.tasks.prune_idempotency_keys", "20", "*", "once", 0),
    ("Prune mails", "email_app.tasks.prune_mails", "40", "3", "once", 0),
    ("Prune notifications", "notifications.tasks.prune_notifications", "50", "3", "once", 0),
    ("Clear expired sessions", "core.tasks.clear_sessions", "15", "4", "once", 0),
    ("Verify the promises", "core.tasks.verify_promises", "30", "4", "skip", 900),
]


#: The model of schedule policies when this migration was written.
POLICIES = ("worker", "SchedulePolicy")


def seed(apps, schema_editor):
    crontabs = apps.get_model("django_celery_beat", "CrontabSchedule").objects
    schedules = apps.get_model("django_celery_beat", "PeriodicTask").objects
    policies = apps.get_model(*POLICIES).objects
    for name, task, minute, hour, catch_up, alert_after in SCHEDULES:
        crontab, _ = crontabs.get_or_create(
            minute=minute, hour=hour, day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
        )
        schedule, _ = schedules.get_or_create(name=name, defaults={"task": task, "crontab": crontab})
        policies.get_or_create(schedule=schedule, defaults={"catch_up": catch_up, "alert_after": alert_after})


class Migration(migrations.Migration):
    dependencies = [
        ("core", "0004_audit_trail_is_append_only"),
        ("worker", "0003_schedule_policies"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
