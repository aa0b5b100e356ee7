import django.utils.timezone
from django.db import migrations, models

from phones.numbers import e164


def write_as_networks_do(apps, schema_editor):
    """Convert numbers to E.164. They were stored as typed, some without a country prefix."""
    verifications = apps.get_model("phones", "PhoneVerification")
    for row in verifications.objects.order_by("pk").only("pk", "phone").iterator():
        number = e164(row.phone)
        if number and number != row.phone:
            verifications.objects.filter(pk=row.pk).update(phone=number)


class Migration(migrations.Migration):

    dependencies = [
        ('phones', '0001_initial'),
    ]

    operations = [
        migrations.AlterField(
            model_name='phoneverification',
            name='phone',
            field=models.CharField(help_text='In E.164, such as +442079460000.', max_length=32),
        ),
        migrations.RunPython(write_as_networks_do, migrations.RunPython.noop),
        migrations.CreateModel(
            name='SmsGrant',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('phone', models.CharField(max_length=32)),
                ('client', models.CharField(blank=True, max_length=64)),
                ('reference', models.CharField(help_text='A message that is sent again keeps its reference.', max_length=64, unique=True)),
                ('created_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
            ],
            options={
                'indexes': [models.Index(fields=['phone', 'created_at'], name='sms_to_a_number'), models.Index(fields=['client', 'created_at'], name='sms_by_an_address')],
            },
        ),
    ]
