"""
The model of the audit trail, on the table that ``core`` created.

Its content type moves with it, and so do permissions and the admin's log, which refer to it.
"""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


def rename(apps, old, new):
    """Assign the model's content type to another app, unless that app has one."""
    kinds = apps.get_model("contenttypes", "ContentType").objects.filter(model="auditentry")
    if not kinds.filter(app_label=new).exists():
        kinds.filter(app_label=old).update(app_label=new)


def move(apps, schema_editor):
    rename(apps, "core", "audit_trail")


def move_back(apps, schema_editor):
    rename(apps, "audit_trail", "core")


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("core", "0010_the_audit_trail_is_an_app"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name='AuditEntry',
                    fields=[
                        ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                        ('at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                        ('what', models.CharField(choices=[('created', 'Created'), ('changed', 'Changed'), ('deleted', 'Deleted'), ('linked', 'Linked'), ('unlinked', 'Unlinked'), ('placed', 'Placed'), ('cancelled', 'Cancelled'), ('logged in', 'Logged In'), ('login failed', 'Login Failed'), ('admin', 'Admin')], max_length=16)),
                        ('model', models.CharField(help_text='Such as store.product.', max_length=100)),
                        ('object_id', models.CharField(blank=True, max_length=64)),
                        ('before', models.JSONField(blank=True, default=dict)),
                        ('after', models.JSONField(blank=True, default=dict)),
                        ('request_id', models.CharField(blank=True, max_length=64)),
                        ('who', models.ForeignKey(blank=True, db_constraint=False, help_text='Empty for the system itself, and for clients that are not signed in.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to=settings.AUTH_USER_MODEL)),
                    ],
                    options={
                        'verbose_name_plural': 'audit trail',
                        'db_table': 'core_auditentry',
                        'ordering': ['-id'],
                        'indexes': [models.Index(fields=['model', 'object_id'], name='audit_trail_of_an_object')],
                    },
                ),
            ],
        ),
        migrations.RunPython(move, move_back),
    ]
