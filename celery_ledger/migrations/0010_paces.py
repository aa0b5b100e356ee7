"""How long tasks take, as workers measure it, and how many of their rows ride together."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('celery_ledger', '0009_index_of_canvases'),
    ]

    operations = [
        migrations.CreateModel(
            name='Pace',
            fields=[
                ('name', models.CharField(help_text="The task's.", max_length=255, primary_key=True, serialize=False)),
                ('seconds', models.FloatField(default=0, help_text='Average run time of the latest bodies.')),
                ('bodies', models.BigIntegerField(default=0, help_text='Number of measured bodies.')),
                ('riders', models.FloatField(help_text='Rows that may share a transaction: halved by a conflict, then grows again.')),
                ('alone_until', models.DateTimeField(help_text='Too many conflicts: until then its rows do not share transactions.', null=True)),
                ('conflicts', models.BigIntegerField(default=0)),
                ('slices', models.BigIntegerField(default=0, help_text='Transactions, shared by several of its rows or not.')),
                ('slice_rows', models.BigIntegerField(default=0)),
                ('slice_seconds', models.FloatField(default=0)),
            ],
        ),
    ]
