"""
An index for the catalogue's search, which looks for parts of words: trigrams, on PostgreSQL.

The extension comes with PostgreSQL, and the owner of a database may create it. Without it, the search reads the whole
catalogue.
"""

import logging

from django.db import DatabaseError, migrations, transaction

logger = logging.getLogger(__name__)

#: As Django writes ``icontains``.
INDEXES = {"store_product_title_trigrams": "upper(title::text)", "store_product_sku_trigrams": "upper(sku::text)"}


def make_indexes(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(), schema_editor.connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError as error:
        logger.warning("The catalogue's search has no index: pg_trgm cannot be installed (%s).", error)
        return
    for name, expression in INDEXES.items():
        schema_editor.execute(
            f"CREATE INDEX IF NOT EXISTS {name} ON store_product USING gin (({expression}) gin_trgm_ops)"
            " WITH (fastupdate = off)"  # Products are searched more often than they are renamed.
        )


def drop_indexes(apps, schema_editor):
    for name in INDEXES:
        schema_editor.execute(f"DROP INDEX IF EXISTS {name}")


class Migration(migrations.Migration):
    dependencies = [("store", "0003_managers")]
    operations = [migrations.RunPython(make_indexes, drop_indexes)]
