
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('django_celery_beat', '0019_alter_periodictasks_options'),
    ]

    operations = [
        migrations.CreateModel(
            name='SchedulePolicy',
            fields=[
                ('schedule', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='policy', serialize=False, to='django_celery_beat.periodictask')),
                ('catch_up', models.CharField(choices=[('skip', 'Skip'), ('once', 'Once'), ('all', 'All')], default='once', max_length=4)),
                ('alert_after', models.PositiveIntegerField(default=300, help_text='Seconds after which a due time that has not run is announced as late. 0: never.')),
            ],
            options={
                'verbose_name_plural': 'schedule policies',
            },
        ),
    ]
