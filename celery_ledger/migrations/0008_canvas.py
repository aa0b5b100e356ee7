import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("celery_ledger", "0007_index_of_what_is_due_later")]

    operations = [
        migrations.CreateModel(
            name="Chord",
            fields=[
                ("id", models.UUIDField(help_text="The header's group id.", primary_key=True, serialize=False)),
                ("body", models.TextField(help_text="JSON, as Celery's signatures have it.")),
                (
                    "shape",
                    models.TextField(
                        help_text="Ids of the header's tasks, nested as its results are; null: a plain list.", null=True
                    ),
                ),
                ("size", models.IntegerField(help_text="The number of members.")),
                ("missing", models.IntegerField(help_text="The number of members that are missing.")),
                (
                    "failed_at",
                    models.DateTimeField(help_text="When its errbacks were called; they are called once.", null=True),
                ),
                ("canvas", models.UUIDField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="KeptGroup",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("result", models.TextField(help_text="JSON, as Celery's backends store it.")),
                ("saved_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="Part",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("chord", models.UUIDField()),
                ("task", models.UUIDField(help_text="The member's id.")),
                ("place", models.IntegerField(help_text="Among the results.")),
                ("value", models.TextField(help_text="JSON, as Celery's backends store it.")),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=["chord", "task"], name="ledger_part")],
            },
        ),
        migrations.CreateModel(
            name="Step",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "chain", "place", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("chain", models.UUIDField()),
                ("place", models.IntegerField(help_text="Counted from the end: the last step has 0.")),
                ("signature", models.TextField(help_text="JSON, as Celery's signatures have it.")),
                ("canvas", models.UUIDField(db_index=True)),
            ],
        ),
        migrations.AddField(
            model_name="durabletask",
            name="canvas",
            field=models.UUIDField(
                blank=True, help_text="The chain, group or chord it was called with.", null=True
            ),
        ),
    ]
