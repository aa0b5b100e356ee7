
import celery_ledger.uuid7
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


#: Autovacuum that suits a table whose every row is updated twice.
TASKS = """
    ALTER TABLE celery_ledger_durabletask SET (
        autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
        autovacuum_analyze_scale_factor = 0.02
    )
"""
#: A count is updated in place, without touching its index, while its page has room for the new version.
COUNTS = """
    ALTER TABLE celery_ledger_tally SET (
        fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000
    )
"""


def tune(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(TASKS)
        schema_editor.execute(COUNTS)


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Canary',
            fields=[
                ('queue', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('sent_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When the oldest one that has not returned was sent.')),
                ('repeated_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When the last one was sent.')),
                ('seen_at', models.DateTimeField(help_text='When a worker last accepted one.', null=True)),
            ],
            options={
                'verbose_name_plural': 'canaries',
            },
        ),
        migrations.CreateModel(
            name='Decision',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('replay', 'Replay'), ('discard', 'Discard')], max_length=7)),
                ('selection', models.JSONField(default=dict, help_text='Which dead tasks; see celery_ledger.desk.dead_letters.Selection.')),
                ('reason', models.CharField(blank=True, help_text='Why they are discarded.', max_length=500)),
                ('per_second', models.FloatField(help_text='How many are replayed a second; null: all at once.', null=True)),
                ('who', models.BigIntegerField(help_text="The user's id; null: the command line.", null=True)),
                ('until', models.DateTimeField(help_text='What died later is not meant.', null=True)),
                ('wanted', models.PositiveIntegerField(help_text='Number of tasks when it was decided.')),
                ('done', models.PositiveIntegerField(default=0)),
                ('begun_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('moved_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When the last batch was done.')),
                ('ended_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('process', models.CharField(help_text='Such as relay 4711 at host-1.', max_length=255, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('relay', 'Relay'), ('worker', 'Worker')], max_length=6)),
                ('state', models.CharField(help_text='Its own report; ok if nothing is wrong.', max_length=64)),
                ('started_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('beaten_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('queues', models.JSONField(default=list, help_text="A worker's.")),
                ('active', models.PositiveIntegerField(default=0, help_text='Messages that a worker is processing.')),
                ('received', models.BigIntegerField(default=0, help_text='Messages that a worker has accepted since it started.')),
                ('received_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), help_text='When that was last seen to change.')),
            ],
        ),
        migrations.CreateModel(
            name='QueueLimit',
            fields=[
                ('queue', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('per_second', models.FloatField(blank=True, help_text='Tasks that may start per second.', null=True)),
                ('concurrency', models.PositiveIntegerField(blank=True, help_text='Tasks that may run at once.', null=True)),
                ('allowance', models.FloatField(default=0, editable=False, help_text='Tasks allowed by the rate at counted_at.')),
                ('counted_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
            ],
        ),
        migrations.CreateModel(
            name='QueueSample',
            fields=[
                ('pk', models.CompositePrimaryKey('at', 'queue', blank=True, editable=False, primary_key=True, serialize=False)),
                ('at', models.DateTimeField(help_text='A multiple of ten seconds.')),
                ('queue', models.CharField(max_length=64)),
                ('pending', models.PositiveIntegerField()),
                ('published', models.PositiveIntegerField()),
                ('running', models.PositiveIntegerField()),
                ('dead', models.PositiveIntegerField()),
                ('retrying', models.PositiveIntegerField(db_default=0, help_text='Pending tasks that have failed before.')),
                ('oldest_pending_seconds', models.FloatField(null=True)),
                ('messages', models.PositiveIntegerField(help_text='Waiting at the broker; null: unknown.', null=True)),
                ('succeeded', models.BigIntegerField()),
                ('failed', models.BigIntegerField(help_text='Attempts that failed.')),
                ('lag', models.FloatField(help_text='Seconds from due to done, summed up.')),
            ],
        ),
        migrations.CreateModel(
            name='QueueSwitch',
            fields=[
                ('queue', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('paused_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'verbose_name': 'queue',
                'verbose_name_plural': 'queues',
            },
        ),
        migrations.CreateModel(
            name='Reaction',
            fields=[
                ('receiver', models.CharField(help_text='Its dispatch_uid.', max_length=255, primary_key=True, serialize=False)),
                ('since', models.DateTimeField(help_text='Null: since the beginning.', null=True)),
            ],
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('pk', models.CompositePrimaryKey('queue', 'name', 'outcome', 'bucket', 'slot', blank=True, editable=False, primary_key=True, serialize=False)),
                ('queue', models.CharField(max_length=64)),
                ('name', models.CharField(max_length=255)),
                ('outcome', models.CharField(choices=[('published', 'Published'), ('succeeded', 'Succeeded'), ('retried', 'Retried'), ('dead', 'Dead'), ('rescued', 'Rescued'), ('replayed', 'Replayed'), ('discarded', 'Discarded'), ('cancelled', 'Cancelled')], max_length=9)),
                ('bucket', models.SmallIntegerField(help_text="Which of the lag histogram's buckets; 0 for all but successes.")),
                ('slot', models.SmallIntegerField()),
                ('rows', models.BigIntegerField()),
                ('messages', models.BigIntegerField(default=0)),
                ('seconds', models.FloatField(default=0, help_text='Sum of the lags.')),
            ],
        ),
        migrations.CreateModel(
            name='DurableTask',
            fields=[
                ('id', models.UUIDField(default=celery_ledger.uuid7.uuid7, editable=False, help_text='Also the Celery task id.', primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=255)),
                ('queue', models.CharField(max_length=64)),
                ('status', models.CharField(choices=[('pending', 'Pending'), ('published', 'Published'), ('running', 'Running'), ('succeeded', 'Succeeded'), ('dead', 'Dead'), ('cancelled', 'Cancelled')], db_default='pending', max_length=9)),
                ('priority', models.SmallIntegerField(db_default=5, help_text='0 to 9; 0 is first.')),
                ('args', models.JSONField(default=list)),
                ('kwargs', models.JSONField(default=dict)),
                ('attempts', models.IntegerField(db_default=0, help_text='How often its body was started, as far as known.')),
                ('attempt_limit', models.IntegerField(blank=True, help_text='Set by a replay: dead again after this many attempts in total.', null=True)),
                ('lapses', models.SmallIntegerField(db_default=0, help_text='How often its message was lost; from the second time on it runs alone and each start is counted.')),
                ('subject', models.CharField(blank=True, help_text='The object it is about, such as app.model:42.', max_length=64, null=True)),
                ('request_id', models.CharField(blank=True, db_default='', max_length=64)),
                ('unique_key', models.CharField(blank=True, max_length=255, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('available_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('expires_at', models.DateTimeField(blank=True, help_text='Cancelled if it has not started by then.', null=True)),
                ('published_at', models.DateTimeField(blank=True, null=True)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('completed_at', models.DateTimeField(blank=True, null=True)),
                ('unknown_since', models.DateTimeField(blank=True, help_text='Since when workers have reported its task as unknown.', null=True)),
                ('last_error', models.TextField(blank=True, db_default='')),
                ('fingerprint', models.CharField(blank=True, db_default='', help_text='The kind of its final error; see celery_ledger.rows.kinds.', max_length=16)),
            ],
            options={
                'permissions': [('replay_durabletask', 'Can replay dead tasks'), ('discard_durabletask', 'Can discard dead tasks'), ('cancel_durabletask', 'Can cancel tasks that wait')],
                'indexes': [models.Index(condition=models.Q(('status', 'pending')), fields=['queue', 'priority', 'available_at', 'id'], name='ledger_pending'), models.Index(condition=models.Q(('lease_until__isnull', False)), fields=['lease_until'], name='ledger_leased'), models.Index(condition=models.Q(('status', 'dead')), fields=['completed_at'], name='ledger_dead'), models.Index(condition=models.Q(('expires_at__isnull', False), ('status__in', ['pending', 'published'])), fields=['expires_at'], name='ledger_expiring'), models.Index(condition=models.Q(('unknown_since__isnull', False)), fields=['name'], name='ledger_unknown'), models.Index(condition=models.Q(('subject__isnull', False)), fields=['subject'], name='ledger_subject')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('unique_key__isnull', False)), fields=('unique_key',), name='ledger_unique_key')],
            },
        ),
        migrations.CreateModel(
            name='FailedAttempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.IntegerField(help_text='Counted from one.')),
                ('published_at', models.DateTimeField(null=True)),
                ('failed_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('worker', models.CharField(blank=True, max_length=255)),
                ('error', models.TextField()),
                ('traceback', models.TextField(blank=True)),
                ('task', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='failed_attempts', to='celery_ledger.durabletask')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='Forgone',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('subject', models.CharField(max_length=64)),
                ('receiver', models.CharField(blank=True, help_text="The signal's receiver, if it was a redelivery.", max_length=255)),
                ('forgone_at', models.DateTimeField()),
                ('reason', models.CharField(blank=True, max_length=500)),
            ],
            options={
                'indexes': [models.Index(fields=['subject'], name='ledger_forgone_subject')],
            },
        ),
        migrations.RunPython(tune, migrations.RunPython.noop),
    ]
