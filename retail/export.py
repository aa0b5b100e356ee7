"""
Read a shop's export of invoice lines, and classify every line.

Used by the commands ``import_retail`` and ``replay_retail``, so that both agree on what a sale is. Nothing here touches
the database or the network. It promises that no line is lost: each line is a sale, a return, neither (with a reason),
or broken (with its line number).
"""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path

from store.models import MAX_CART_LINES, MAX_LINE_QUANTITY

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

#: The kinds of lines. Any other kind is a text that says why the line is neither.
SALE = "sale"
RETURN = "return"
BROKEN = "broken"
NO_PRICE = "no price"
NEGATIVE = "negative quantity outside a cancellation"
NOTHING = "quantity zero"
TOO_MANY = f"more than {MAX_LINE_QUANTITY} of one product in an invoice"
TOO_LONG = f"more than {MAX_CART_LINES} products in an invoice"
NOT_A_RETURN = "positive quantity in a cancellation"

#: Five or six digits, then letters for colours and sizes. Everything else is postage, fees, vouchers, tests.
PRODUCT_CODE = re.compile(r"[0-9]{5,6}[A-Z]{0,4}")
INVOICE_NUMBER = re.compile(r"[A-Z]?[0-9]{1,12}")
CUSTOMER_NUMBER = re.compile(r"([0-9]{1,12})(?:\.0)?")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,15}")
#: Notes by the staff in place of a description.
STAFF_NOTE = re.compile(
    r"\W*(?:found|faulty|lost|missing|wet|mouldy|thrown away|check(?:ed)?|test|adjust\w*|damage[ds]?|"
    r"(?:amazon|dotcom|ebay)(?: sales?)?)\W*",
    re.IGNORECASE,
)
DATE_FORMATS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M")
PENNY = Decimal("0.01")
HIGHEST_PRICE = Decimal(10) ** 10


class UnreadableExportError(Exception):
    """The file is not an export; the error's text explains why in one sentence."""


class BrokenLineError(Exception):
    """A line cannot be parsed; the text explains why."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice. ``number`` is its line in the file; the header is line 1."""

    number: int
    invoice: str
    sku: str
    description: str
    quantity: int
    placed_at: datetime
    price: Decimal
    customer: str
    country: str
    kind: str


@dataclass(slots=True)
class Invoice:
    """The valid lines of one invoice number, in the file's order."""

    number: str
    customer: str
    country: str
    lines: list[Line] = field(default_factory=list)

    @property
    def is_cancellation(self) -> bool:
        return self.number.startswith("C")

    @property
    def username(self) -> str:
        """The buyer: the export's customer, or a guest for this invoice."""
        return f"retail-{self.customer}" if self.customer else f"retail-guest-{self.number}"

    @property
    def sales(self) -> list[Line]:
        """The lines that a shop can sell."""
        return [line for line in self.lines if line.kind == SALE]

    @property
    def sold(self) -> dict[str, int]:
        """The quantity sold of each product, by sku, summed over lines."""
        return _add_up(self.sales)

    @property
    def returned(self) -> dict[str, int]:
        """The quantity returned of each product, by sku."""
        return _add_up(line for line in self.lines if line.kind == RETURN)


@dataclass(slots=True)
class Export:
    """The contents of an export. ``kinds`` and ``broken`` together count every line after the header, once."""

    lines_read: int = 0
    invoices: dict[str, Invoice] = field(default_factory=dict)
    broken: list[tuple[int, str]] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        """The number of lines of each kind; broken ones as ``BROKEN``."""
        counts = Counter(line.kind for invoice in self.invoices.values() for line in invoice.lines)
        if self.broken:
            counts[BROKEN] = len(self.broken)
        return counts

    def check(self) -> None:
        """Raise AssertionError unless every line read is counted once."""
        counted = sum(self.kinds.values())
        if counted != self.lines_read:
            raise AssertionError(f"{self.lines_read} lines were read, but {counted} are accounted for.")


def read_export(path: Path, *, limit: int | None = None) -> Export:
    """
    Return the export at ``path``: CSV, or gzip-compressed CSV if the name ends in ``.gz``.

    ``limit`` ends the reading at the first line of the invoice after that many invoices.

    Raises:
        UnreadableExportError: there is no such file, it is not what its name says, or columns are missing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UnreadableExportError(f"There is no file {path}.") from None
    except OSError as error:
        raise UnreadableExportError(f"{path} cannot be read: {error.strerror or error}.") from error
    if path.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableExportError(f"{path} is not a whole gzip file: {error}.") from error
    elif content.startswith(b"\x1f\x8b"):
        raise UnreadableExportError(f"{path} is compressed by gzip; let its name end in .gz.")
    try:
        return read_lines(io.BytesIO(content), limit=limit)
    except UnreadableExportError as error:
        raise UnreadableExportError(f"{path} is not a shop export: {error}") from error


def read_lines(raw: Iterable[bytes], *, limit: int | None = None) -> Export:
    """
    Parse the raw lines of an export. A record is one line; an open quote breaks only its own.

    Raises:
        UnreadableExportError: the first line does not name every column.
    """
    lines = iter(raw)
    header = _read_header(next(lines, b""))
    places = [header.index(name) for name in COLUMNS]
    export = Export()
    sold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for number, text in enumerate(lines, start=2):
        try:
            fields = _split(text)
            if len(fields) != len(header):
                raise BrokenLineError(f"{len(fields)} columns instead of {len(header)}")
            line = _parse(number, [fields[place].strip() for place in places], sold)
            if line.invoice not in export.invoices and len(export.invoices) == limit:
                break
            _add(line, export)
        except BrokenLineError as error:
            export.broken.append((number, str(error)))
        else:
            if line.kind == SALE:
                sold[line.invoice][line.sku] += line.quantity
        export.lines_read += 1
    return export


def pick_title(sku: str, descriptions: Iterable[str]) -> str:
    """Return the most frequent good description, the first of equals; or a title made of the code."""
    good = Counter(text for text in (" ".join(each.split()) for each in descriptions) if _is_title(text))
    return good.most_common(1)[0][0][:255] if good else f"Article {sku}"


def _read_header(raw: bytes) -> list[str]:
    try:
        header = [name.strip() for name in _split(raw.removeprefix(codecs.BOM_UTF8))]
    except BrokenLineError as error:
        raise UnreadableExportError(f"its first line is {error}.") from error
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise UnreadableExportError(f"its first line does not name {', '.join(missing)}.")
    return header


def _add(line: Line, export: Export) -> None:
    invoice = export.invoices.get(line.invoice)
    if invoice is None:
        invoice = export.invoices[line.invoice] = Invoice(line.invoice, line.customer, line.country)
    elif line.customer != invoice.customer:
        raise BrokenLineError(f"another customer than the rest of invoice {line.invoice}")
    invoice.lines.append(line)


def _split(raw: bytes) -> list[str]:
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BrokenLineError(f"not UTF-8, from byte {error.start + 1} on") from None
    if "\x00" in text:
        raise BrokenLineError("not text: it has a zero byte")
    if not text.strip():
        raise BrokenLineError("empty")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BrokenLineError(f"not CSV: {error}") from None


def _parse(number: int, values: list[str], sold: defaultdict[str, Counter[str]]) -> Line:
    invoice, sku, description, quantity, date, price, customer, country = values
    invoice, sku = invoice.upper(), sku.upper()
    if not INVOICE_NUMBER.fullmatch(invoice):
        raise BrokenLineError(f"{_quoted(invoice)} is not an invoice number")
    if not sku:
        raise BrokenLineError("no stock code")
    if not WHOLE_NUMBER.fullmatch(quantity):
        raise BrokenLineError(f"the quantity {_quoted(quantity)} is not a whole number")
    named = CUSTOMER_NUMBER.fullmatch(customer)
    if customer and named is None:
        raise BrokenLineError(f"{_quoted(customer)} is not a customer number")
    paid = _parse_price(price)
    return Line(
        number=number,
        invoice=invoice,
        sku=sku,
        description=description,
        quantity=int(quantity),
        placed_at=_parse_date(date),
        price=paid,
        customer=named[1] if named else "",
        country=country[:64],
        kind=_kind_of(sku, int(quantity), paid, is_cancellation=invoice.startswith("C"), sold=sold[invoice]),
    )


def _kind_of(sku: str, quantity: int, price: Decimal, *, is_cancellation: bool, sold: Counter[str]) -> str:
    """Return the kind of a line, in an invoice that has already sold these quantities."""
    if not PRODUCT_CODE.fullmatch(sku):
        return f"not a product: code {sku if sku.isprintable() and len(sku) <= 30 else _quoted(sku)}"
    if is_cancellation:
        return RETURN if quantity < 0 else NOT_A_RETURN
    if quantity <= 0:
        return NEGATIVE if quantity else NOTHING
    if price < PENNY:
        return NO_PRICE
    if sold[sku] + quantity > MAX_LINE_QUANTITY:
        return TOO_MANY
    if sku not in sold and len(sold) >= MAX_CART_LINES:
        return TOO_LONG
    return SALE


def _parse_price(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise BrokenLineError(f"the price {_quoted(text)} is not a number") from None
    if not price.is_finite() or abs(price) >= HIGHEST_PRICE:
        raise BrokenLineError(f"the price {_quoted(text)} is out of range")
    return price.quantize(PENNY, ROUND_HALF_UP)


def _parse_date(text: str) -> datetime:
    for form in DATE_FORMATS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    raise BrokenLineError(f"the date {_quoted(text)} is neither 2010-12-01T08:26 nor 12/1/2010 8:26")


def _is_title(text: str) -> bool:
    return sum(character.isalpha() for character in text) >= 3 and not STAFF_NOTE.fullmatch(text)


def _add_up(lines: Iterable[Line]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for line in lines:
        totals[line.sku] += abs(line.quantity)
    return dict(totals)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:30] + "...")
