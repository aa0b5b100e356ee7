import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError
from tqdm import tqdm

from retail.export import RETURN, SALE, Export, UnreadableExportError, read_export
from retail.importer import Imported, count_rows, import_export


def positive(text: str) -> int:
    """Return an argument as a whole number above zero."""
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


class Command(BaseCommand):
    help = (
        "Load catalogue, customers and opening stock from a shop export: CSV or .csv.gz with the columns "
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country. "
        "Each CustomerID becomes a user retail-ID without a usable password; each invoice without one becomes a guest "
        "customer, retail-guest-INVOICE. Each product code that is sold becomes a product with its most frequent title "
        "and price; no collections are created. Can be repeated: products are updated by SKU, customers are only "
        "added, and stock is only set for products without movements and reservations. No order is placed (see "
        "replay_retail) and no mail is sent; changes of products and stock are in the audit trail. Broken lines are "
        "listed and skipped; the rest is loaded in one transaction."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--limit", type=positive, metavar="N", help="read the first N invoices only")
        parser.add_argument(
            "--stock",
            choices=["enough", "scarce"],
            default="enough",
            help="opening stock of each product: 'enough' covers every sale of the export; 'scarce' is half of that, "
            "rounded down, so that some orders are refused",
        )
        parser.add_argument(
            "--replays", type=positive, default=1, metavar="N", help="opening stock for N replays instead of one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            export = read_export(options["file"], limit=options["limit"])
        except UnreadableExportError as error:
            raise CommandError(f"Nothing was loaded. {error}") from error
        export.check()
        share = {"enough": 1, "scarce": 2}[options["stock"]]
        with tqdm(
            total=count_rows(export), desc="import", unit="row", file=sys.stderr, disable=not options["verbosity"]
        ) as bar:
            try:
                done = import_export(
                    export,
                    opening_stock=lambda sold: sold * options["replays"] // share,
                    progress=bar.update,
                )
            except IntegrityError as error:
                raise CommandError(
                    "Nothing was loaded: the same users or products were added meanwhile, or a user has the "
                    f"e-mail address of one of these customers. ({str(error).splitlines()[0]})"
                ) from error
        self.summarise(export, done)

    def summarise(self, export: Export, done: Imported) -> None:
        """Write the outcome of every line, and of every row."""
        for number, why in export.broken:
            self.stderr.write(f"line {number}: {why}")
        kinds = export.kinds
        loaded = kinds.pop(SALE, 0)
        self.stdout.write(f"{export.lines_read:>8}  lines read, {len(export.invoices)} invoices")
        self.stdout.write(f"{loaded:>8}  loaded")
        for kind, count in kinds.most_common():
            label = "not loaded: a return" if kind == RETURN else f"not loaded: {kind}"
            self.stdout.write(f"{count:>8}  {label}")
        for what, counts in (("customers", done.customers), ("products", done.products), ("stock", done.stock)):
            told = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()) if count)
            self.stdout.write(f"{what}: {told or 'none'}")
