"""The group of the users who are notified of anything that needs a person."""

from django.db import migrations


def make_group(apps, schema_editor):
    apps.get_model("auth", "Group").objects.get_or_create(name="managers")


class Migration(migrations.Migration):
    dependencies = [
        ("store", "0002_price_changes_and_low_stock"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations = [migrations.RunPython(make_group, migrations.RunPython.noop)]
