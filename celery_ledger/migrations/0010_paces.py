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
                ('seconds', models.FloatField(default=0, help_text='What a body takes, on average of the latest.')),
                ('bodies', models.BigIntegerField(default=0, help_text='How many were measured.')),
                ('riders', models.FloatField(help_text='Rows that may share a transaction: halved by a conflict, then grows again.')),
                ('alone_until', models.DateTimeField(help_text='Conflicts were too many: until then none ride.', null=True)),
                ('conflicts', models.BigIntegerField(default=0)),
                ('slices', models.BigIntegerField(default=0, help_text='Transactions that several of its rows shared, or had alone.')),
                ('slice_rows', models.BigIntegerField(default=0)),
                ('slice_seconds', models.FloatField(default=0)),
            ],
        ),
    ]
