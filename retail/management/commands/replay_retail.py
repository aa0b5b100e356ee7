import json
import logging
import re
import secrets
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from retail.accounts import Accounts
from retail.export import UnreadableExportError, read_export
from retail.management.commands.import_retail import positive
from retail.replayer import Outcome, Replayer, ReplayError, Result


def run_name(text: str) -> str:
    """Return a run's name, which must fit into a header."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}", text):
        raise ArgumentTypeError("a run's name is 1 to 40 of A-Z a-z 0-9 . _ -")
    return text


def shop_url(text: str) -> str:
    """Return the address of a shop, without the slash at its end."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ArgumentTypeError(f"{text!r} is not an address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ArgumentTypeError(f"{text!r} is not an address such as http://127.0.0.1:8000")
    return text.rstrip("/")


class Command(BaseCommand):
    help = (
        "Place the invoices of a shop export as real checkouts over HTTP, after import_retail has loaded it. "
        "Needs the shop's DATABASE_URL and SECRET_KEY to issue tokens for the imported customers; everything else goes "
        "through the public API. Each customer's invoices are placed in the file's order. A cancellation (C...) "
        "cancels that customer's latest open order of this replay that contains all returned items; orders are "
        "always cancelled whole, and partial returns are counted separately. Lines that are not sales are counted by "
        "reason. If the shop becomes unavailable, the replay waits for it. In a shop that takes payments, each order "
        "is paid through the API, and the replay waits until all payments are settled. Exits with 1 if an invoice "
        "failed, a payment is open or the accounts do not balance; an order refused for lack of stock or a payment "
        "declined too often is not a failure. "
        "The Idempotency-Key of an invoice consists of its number and the name of the run. By default each run has a "
        "new name, so a second replay places a second set of orders. To resume a run, name it (--run) within 24 "
        "hours: nothing is placed twice, orders placed before are counted as such, and cancellations of those orders "
        "are skipped."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument(
            "--url", type=shop_url, default=settings.SITE_URL, help="the shop's address (default: SITE_URL)"
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="read the first N invoices only")
        parser.add_argument(
            "--concurrency", type=positive, default=8, metavar="C", help="clients at a time (default: %(default)s)"
        )
        parser.add_argument("--json", action="store_true", help="write the accounts as JSON")
        parser.add_argument("--run", type=run_name, metavar="NAME", help="the name of a run, to repeat it safely")
        parser.add_argument(
            "--patience",
            type=positive,
            default=120,
            metavar="SECONDS",
            help="how long to retry a call while the shop is unavailable (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # It has a line for every request.
        try:
            export = read_export(options["file"], limit=options["limit"])
            export.check()
            replayer = Replayer(
                export,
                url=options["url"],
                run=options["run"] or secrets.token_hex(6),
                resumed=options["run"] is not None,
                concurrency=options["concurrency"],
                patience=options["patience"],
            )
            replayer.prepare()
        except (UnreadableExportError, ReplayError) as error:
            raise CommandError(f"Nothing was placed. {error}") from error
        accounts = self.replay(replayer, show=bool(options["verbosity"]))
        if options["json"]:
            self.stdout.write(json.dumps(accounts.as_json(), indent=2))
        else:
            self.write_table(accounts)
        self.judge(accounts)

    def replay(self, replayer: Replayer, *, show: bool) -> Accounts:
        """Replay with a progress bar on stderr. Ctrl-C ends it after the current calls."""
        results: list[Result] = []
        placed = 0
        started = time.monotonic()
        with tqdm(
            total=len(replayer.export.invoices), desc="replay", unit="invoice", file=sys.stderr, disable=not show
        ) as bar:
            replayer.start()
            while len(results) < len(replayer.export.invoices):
                try:
                    result = replayer.next_result()
                except KeyboardInterrupt:
                    if replayer.stop.is_set():
                        raise
                    replayer.stop.set()
                    continue
                results.append(result)
                placed += result.outcome is Outcome.PLACED
                bar.set_postfix_str(f"{placed / (time.monotonic() - started):.1f} orders/s", refresh=False)
                bar.update()
        replayer.wait()
        replayer.wait_for_payments()
        return Accounts(replayer, results, time.monotonic() - started)

    def write_table(self, accounts: Accounts) -> None:
        """Write the accounts for a person."""
        told = accounts.as_json()
        rows: list[tuple[str, object]] = [("invoices read", told["invoices_read"])]
        rows += [(f"  {outcome}", count) for outcome, count in told["invoices"].items()]
        rows.append(("lines read", told["lines_read"]))
        rows += [(f"  {kind}", count) for kind, count in told["lines"].items()]
        rows.append(("replayed answers", told["replayed_answers"]))
        rows += [(f"payments {status}", count) for status, count in told["payments"].items()]
        rows.append(("duplicates flagged", told["duplicates_flagged"]))
        rows.append(("calls tried again", sum(told["retries"].values())))
        rows += [(f"  {cause}", count) for cause, count in told["retries"].items()]
        rows.append(("carts rebuilt", told["carts_rebuilt"]))
        rows.append(("seconds", told["seconds"]))
        rows.append(("orders/s", told["orders_per_second"]))
        rows += [(f"POST /api/orders/ {name}, ms", value) for name, value in (told["checkout_ms"] or {}).items()]
        for label, value in rows:
            self.stdout.write(f"{value:>10}  {label}")
        for line in told["broken_lines"]:
            self.stdout.write(f"broken line {line['line']}: {line['reason']}")
        for failure in told["failures"]:
            self.stdout.write(f"failed invoice {failure['invoice']}: {failure['status'] or ''} {failure['detail']}")
        self.stdout.write(f"run {told['run']}")

    def judge(self, accounts: Accounts) -> None:
        """Raise CommandError, which means exit code 1, unless everything succeeded."""
        faults = list(accounts.imbalances)
        if accounts.failures:
            faults.append(f"{len(accounts.failures)} invoices failed.")
        if unsettled := sum(
            accounts.replayer.meter.payments[status] for status in ("pending", "refund_due", "unknown")
        ):
            faults.append(f"{unsettled} payments are not settled.")
        if unreached := accounts.invoices[Outcome.NOT_REACHED]:
            faults.append(f"{unreached} invoices were not reached.")
        if faults:
            raise CommandError(" ".join(faults))
