"""
The ledger's tables become those of ``celery_ledger``: renamed with their rows, not copied.

The package's first migrations have created empty tables, which show the names of columns, indexes and constraints. They
are dropped, and the old tables take their place. No other session can read them meanwhile; the duration does not depend
on the number of rows.

On PostgreSQL, until the release after this one, writable views have the old names, so that processes of the last
release continue until they are replaced. There are none on SQLite, where views are read-only and would keep Django from
altering the tables. A migration that changes a column's type, or drops one, must wait until the views are gone.
"""

from django.db import migrations
from django.db.migrations.exceptions import IrreversibleError

from worker.migrations._locks import lock

#: The new app of each model. Models come before those that they refer to.
MOVES = {
    **dict.fromkeys(
        (
            "FailedAttempt",
            "DurableTask",
            "QueueSwitch",
            "QueueLimit",
            "Decision",
            "Forgone",
            "Reaction",
            "Tally",
            "QueueSample",
            "Heartbeat",
            "Canary",
        ),
        "celery_ledger",
    ),
    "SchedulePolicy": "celery_ledger_beat",
}
#: The models whose rows are copied from the package's tables, if processes of this release have already written there.
#: Rows of the others are short-lived or recorded again.
TAKEN_OVER = ("DurableTask", "FailedAttempt", "QueueSwitch", "QueueLimit", "Forgone", "SchedulePolicy")
#: Dropping a table also locks this one, to which it refers.
REFERRED_TO = "django_celery_beat_periodictask"

CONSTRAINTS = "SELECT pg_get_constraintdef(oid), conname FROM pg_constraint WHERE conrelid = %s::regclass"
INDEXES = """
    SELECT pg_get_indexdef(indexrelid), relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = %s::regclass AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid
    )
"""
SQLITE_INDEXES = "SELECT sql, name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = %s"
GRANTS = """
    SELECT format('GRANT %%s ON %%I TO %%s', privilege_type, %s::text,
                  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
    FROM pg_class CROSS JOIN aclexplode(relacl)
    WHERE oid = %s::regclass AND grantee <> relowner AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
"""


def move(apps, schema_editor):
    postgresql = schema_editor.connection.vendor == "postgresql"
    tables = {}
    for name, label in MOVES.items():
        model = apps.get_model(label, name)
        tables[model] = f"worker_{model._meta.model_name}", model._meta.db_table
    lock(schema_editor, [*(table for pair in tables.values() for table in pair), REFERRED_TO])
    wanted = {new: names(schema_editor, new) for _, new in tables.values()}
    for model in sorted(tables, key=lambda model: model.__name__):  # The tasks before their attempts.
        if model.__name__ in TAKEN_OVER:
            take_over(schema_editor, model, *tables[model])
    if postgresql:
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # A table that is yet to be checked is not altered.
    for _, new in tables.values():
        schema_editor.execute(f"DROP TABLE {new}")
    for old, new in tables.values():
        schema_editor.execute(f"ALTER TABLE {old} RENAME TO {new}")
    for model, (old, new) in tables.items():
        columns = columns_of(schema_editor, new)
        for field in model._meta.local_concrete_fields:
            if field.column not in columns:
                schema_editor.add_field(model, field)
        name_alike(schema_editor, new, wanted[new])
        if postgresql:
            leave_view(schema_editor, old, new, columns)


def columns_of(schema_editor, table):
    introspection = schema_editor.connection.introspection
    with schema_editor.connection.cursor() as cursor:
        return [column.name for column in introspection.get_table_description(cursor, table)]


def take_over(schema_editor, model, old, new):
    both = set(columns_of(schema_editor, old)) & set(columns_of(schema_editor, new))
    columns = ", ".join(
        field.column
        for field in model._meta.local_concrete_fields
        if field.column in both and field.get_internal_type() != "BigAutoField"
    )
    schema_editor.execute(f"INSERT INTO {old} ({columns}) SELECT {columns} FROM {new} WHERE true ON CONFLICT DO NOTHING")


# --- Indexes, constraints and sequences ---------------------------------------------------


def names(schema_editor, table):
    """Return the indexes, constraints and sequences of ``table`` by kind and definition: name and statement."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(SQLITE_INDEXES, [table])
            return {("INDEX", _what(sql, "(")): (name, sql) for sql, name in cursor.fetchall()}
        cursor.execute(CONSTRAINTS, [table])
        found = {
            ("CONSTRAINT", says): (name, f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {says}')
            for says, name in cursor.fetchall()
        }
        cursor.execute(INDEXES, [table])
        found |= {("INDEX", _what(sql, " USING ")): (name, sql) for sql, name in cursor.fetchall()}
        for sequence in connection.introspection.get_sequences(cursor, table):
            found["SEQUENCE", sequence["column"]] = (sequence["name"], None)
    return found


def _what(sql, after):
    """Return a definition of an index without its name and its table's."""
    return sql.startswith("CREATE UNIQUE"), sql.partition(after)[2]


def name_alike(schema_editor, table, wanted):
    """Rename the indexes, constraints and sequences of ``table`` as ``wanted``, and create missing ones."""
    there = names(schema_editor, table)
    for key, (name, sql) in wanted.items():
        kind, (old, _) = key[0], there.get(key, (None, None))
        if schema_editor.connection.vendor == "sqlite":  # SQLite cannot rename an index.
            if old is not None:
                schema_editor.execute(f'DROP INDEX "{old}"')
            schema_editor.execute(sql, params=None)
        elif old is None:
            schema_editor.execute(sql, params=None)
        elif kind == "CONSTRAINT":
            schema_editor.execute(f'ALTER TABLE {table} RENAME CONSTRAINT "{old}" TO "{name}"')
        else:
            schema_editor.execute(f'ALTER {kind} "{old}" RENAME TO "{name}"')


def leave_view(schema_editor, view, table, columns):
    """Create a view of ``table`` as it was in the last release, with the table's grants."""
    schema_editor.execute(f"CREATE VIEW {view} AS SELECT {', '.join(columns)} FROM {table}")
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(GRANTS, [view, table])
        grants = cursor.fetchall()
    for (grant,) in grants:
        schema_editor.execute(grant)


# --- Content types ------------------------------------------------------------------------


def move_content_types(apps, schema_editor):
    """Move the content types, and with them permissions and the admin's history, which refer to them."""
    alias = schema_editor.connection.alias
    types = apps.get_model("contenttypes", "ContentType").objects.using(alias)
    for name, label in MOVES.items():
        kind = types.filter(app_label="worker", model=name.lower()).first()
        if kind is None:
            continue
        early = types.filter(app_label=label, model=name.lower()).first()
        if early is not None:  # The package's migrations were run before these.
            unite(apps, alias, early, kind)
        kind.app_label = label
        kind.save()


def unite(apps, alias, early, kind):
    """Make everything that refers to ``early`` refer to ``kind``, and delete ``early``."""
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    for permission in permissions.filter(content_type=early):
        same = permissions.filter(content_type=kind, codename=permission.codename).first()
        if same is None:
            permission.content_type = kind
            permission.save()
        else:
            same.group_set.add(*permission.group_set.all())
            same.user_set.add(*permission.user_set.all())
    apps.get_model("admin", "LogEntry").objects.using(alias).filter(content_type=early).update(content_type=kind)
    early.delete()


def refuse(apps, schema_editor):
    raise IrreversibleError(
        "The ledger's tables stay those of the package. The last release runs on them as they are, by the views of the "
        "old names: start its processes again, and migrate nothing."
    )


class Migration(migrations.Migration):
    dependencies = [
        ("worker", "0011_unknown_tasks_and_many_attempts"),
        ("celery_ledger", "0001_initial"),
        ("celery_ledger_beat", "0001_initial"),
        ("admin", "0001_initial"),
        ("contenttypes", "0002_remove_content_type_name"),
        # They write policies of schedules into the old tables.
        ("core", "0005_schedules"),
        ("notifications", "0005_dead_letters"),
    ]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel(name) for name in MOVES],
        ),
        migrations.RunPython(move, refuse),
        migrations.RunPython(move_content_types, refuse),
    ]
