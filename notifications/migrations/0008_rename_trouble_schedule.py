from django.db import migrations


def rename(apps, schema_editor):
    schedules = apps.get_model("django_celery_beat", "PeriodicTask").objects
    if not schedules.filter(name="Alert on problems").exists():
        schedules.filter(name="Tell of trouble").update(name="Alert on problems")


class Migration(migrations.Migration):
    dependencies = [("notifications", "0007_trouble")]

    operations = [migrations.RunPython(rename, migrations.RunPython.noop)]
