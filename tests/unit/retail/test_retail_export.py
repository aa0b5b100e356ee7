"""Every line of an export is a sale, a return, something else with its reason, or broken with its number."""

import gzip
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail.export import (
    BROKEN,
    NEGATIVE,
    NO_PRICE,
    NOT_A_RETURN,
    NOTHING,
    RETURN,
    SALE,
    TOO_LONG,
    TOO_MANY,
    UnreadableExportError,
    pick_title,
    read_export,
    read_lines,
)
from tests.retail_files import HEADER, content, line, write


def read(*lines, limit=None):
    export = read_lines(content(*lines).splitlines(keepends=True), limit=limit)
    export.check()
    return export


def test_a_line_is_read_in_full():
    export = read(line("900001", "10001b", " BLUE TEAPOT ", 6, "2.5", "70001", "Norway"))
    [only] = export.invoices["900001"].lines
    assert (only.number, only.sku, only.description, only.quantity) == (2, "10001B", "BLUE TEAPOT", 6)
    assert (only.price, only.customer, only.country) == (Decimal("2.50"), "70001", "Norway")
    assert only.placed_at == datetime(2010, 12, 1, 8, 26)
    assert only.kind == SALE


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (line(), SALE),
        (line(sku="123456"), SALE),
        (line(sku="10001abcd"), SALE),
        (line(price="0.005"), SALE),
        (line(quantity=10_000), SALE),
        (line(quantity=10_001), TOO_MANY),
        (line(price="0"), NO_PRICE),
        (line(price="0.004"), NO_PRICE),
        (line(price="-3"), NO_PRICE),
        (line(quantity=-5), NEGATIVE),
        (line(quantity=-5, price="0", description="?"), NEGATIVE),
        (line(quantity=0), NOTHING),
        (line(invoice="C900002", quantity=-5), RETURN),
        (line(invoice="c900002", quantity=-5), RETURN),
        (line(invoice="C900002", quantity=-10_500, price="0"), RETURN),
        (line(invoice="C900002", quantity=5), NOT_A_RETURN),
        (line(sku="POST"), "not a product: code POST"),
        (line(sku="m"), "not a product: code M"),
        (line(sku="BANK CHARGES", price="-12.50"), "not a product: code BANK CHARGES"),
        (line(sku="gift_0001_50"), "not a product: code GIFT_0001_50"),
        (line(sku="DCGS0076"), "not a product: code DCGS0076"),
        (line(sku="1234"), "not a product: code 1234"),
        (line(invoice="C900002", sku="D", quantity=-1), "not a product: code D"),
        (line(invoice="A900003", sku="B", price="-11062.06", customer=""), "not a product: code B"),
    ],
)
def test_a_line_is_of_one_kind(text, kind):
    assert read(text).kinds == {kind: 1}


def test_a_code_cannot_write_on_the_operators_terminal():
    [kind] = read(line(sku="\x1b[2J")).kinds
    assert kind == r"not a product: code '\x1b[2J'"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("900001,10001", "2 columns instead of 8"),
        (line() + ",more", "9 columns instead of 8"),
        (line(description="BLUE, TEAPOT"), "9 columns instead of 8"),
        ("", "empty"),
        (line(description='"LEFT OPEN'), "not CSV: unexpected end of data"),
        (line(description="ZERO\x00BYTE"), "not text: it has a zero byte"),
        (line(quantity="many"), "the quantity 'many' is not a whole number"),
        (line(quantity="1.5"), "the quantity '1.5' is not a whole number"),
        (line(quantity="9" * 40), f"the quantity '{'9' * 30}...' is not a whole number"),
        (line(price="free"), "the price 'free' is not a number"),
        (line(price="NaN"), "the price 'NaN' is out of range"),
        (line(price="1e12"), "the price '1e12' is out of range"),
        (line(date="yesterday"), "the date 'yesterday' is neither 2010-12-01T08:26 nor 12/1/2010 8:26"),
        (line(customer="a man"), "'a man' is not a customer number"),
        (line(invoice=""), "'' is not an invoice number"),
        (line(sku=" "), "no stock code"),
    ],
)
def test_a_line_that_cannot_be_understood_is_named_and_the_rest_goes_on(text, why):
    export = read(line(), text, line(sku="10002"))
    assert export.broken == [(3, why)]
    assert export.kinds == {SALE: 2, BROKEN: 1}


def test_bytes_that_are_no_text_break_their_line_only():
    raw = content(line(), line(description="CAF?"), line(sku="10002")).replace(b"CAF?", b"CAF\xe9")
    export = read_lines(raw.splitlines(keepends=True))
    assert export.broken == [(3, "not UTF-8, from byte 17 on")]
    assert export.kinds[SALE] == 2


def test_an_invoice_has_one_customer():
    export = read(line(customer="70001"), line(customer="70002"))
    assert export.broken == [(3, "another customer than the rest of invoice 900001")]


def test_quotes_columns_in_another_order_and_other_writings_are_understood():
    raw = (
        b"\xef\xbb\xbfCountry,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo,Note\r\n"
        b'Norway,70001.0,2.50,12/1/2010 8:26,6,"TEAPOT, 7"" HIGH",10001,900001,x\r\n'
    )
    [only] = read_lines(raw.splitlines(keepends=True)).invoices["900001"].lines
    assert (only.description, only.customer, only.quantity) == ('TEAPOT, 7" HIGH', "70001", 6)
    assert only.placed_at == datetime(2010, 12, 1, 8, 26)


def test_the_same_product_twice_adds_up_whatever_its_case():
    invoice = read(line(sku="10001a", quantity=2), line(sku="10001A", quantity=3), line(sku="POST")).invoices["900001"]
    assert invoice.sold == {"10001A": 5}


def test_an_invoice_sells_no_more_of_a_product_than_a_cart_takes():
    export = read(line(quantity=9_999), line(quantity=2), line(quantity=1), line("900002", quantity=2))
    assert export.invoices["900001"].sold == {"10001": 10_000}
    assert export.kinds == {SALE: 3, TOO_MANY: 1}


def test_an_invoice_sells_no_more_products_than_a_cart_takes():
    export = read(*(line(sku=str(10_000 + number)) for number in range(1_001)), line(sku="10000"))
    assert len(export.invoices["900001"].sold) == 1_000
    assert export.kinds == {SALE: 1_001, TOO_LONG: 1}


def test_an_invoice_without_a_customer_is_a_guests():
    export = read(line("900001", customer="70001"), line("900002", customer=""))
    assert [invoice.username for invoice in export.invoices.values()] == ["retail-70001", "retail-guest-900002"]


def test_a_limit_ends_the_reading_before_the_next_invoice():
    export = read(line("900001"), line("900002"), "broken", line("900002"), line("900003"), line("900001"), limit=2)
    assert list(export.invoices) == ["900001", "900002"]
    assert export.lines_read == 4


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_whatever_the_file_holds_every_line_is_counted_once(rubbish):
    lines = b"".join(part.replace(b"\n", b"") + b"\n" for part in rubbish)
    raw = (content(line()) + lines).splitlines(keepends=True)
    export = read_lines(raw)
    export.check()
    assert export.lines_read == len(raw) - 1


@pytest.mark.parametrize(
    ("descriptions", "title"),
    [
        (["RED MUG", "BLUE MUG", "BLUE  MUG "], "BLUE MUG"),
        (["RED MUG", "BLUE MUG"], "RED MUG"),
        (["?", "?", "damages", "Found", "amazon sales", "", "22", "RED MUG"], "RED MUG"),
        (["CHECK", "wet", "adjustment", "", "??"], "Article 10001"),
        (["CHECKED TEA TOWEL"], "CHECKED TEA TOWEL"),
        (["M" * 300], "M" * 255),
        ([], "Article 10001"),
    ],
)
def test_a_title_is_the_most_frequent_description_that_is_no_staff_note(descriptions, title):
    assert pick_title("10001", descriptions) == title


@pytest.mark.parametrize("name", ["export.csv", "export.csv.gz"])
def test_a_file_is_read_plain_or_compressed(tmp_path, name):
    assert read_export(write(tmp_path / name, line())).kinds == {SALE: 1}


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("export.csv.gz", content(line()), "is not a whole gzip file"),
        ("export.csv.gz", gzip.compress(content(line()))[:-12], "is not a whole gzip file"),
        ("export.csv", gzip.compress(content(line())), "let its name end in .gz"),
        ("export.csv", b"", "its first line is empty"),
        ("export.csv", b"\xff\xfe\x00", "its first line is not UTF-8"),
        ("export.csv", HEADER.replace("UnitPrice", "Price").encode(), "does not name UnitPrice"),
    ],
)
def test_a_file_that_is_no_export_is_refused_in_one_sentence(tmp_path, name, raw, why):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UnreadableExportError, match=why) as refusal:
        read_export(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableExportError, match="There is no file"):
        read_export(tmp_path / "none.csv")
    with pytest.raises(UnreadableExportError, match="cannot be read"):
        read_export(tmp_path)


@pytest.mark.skipif("RETAIL_EXPORT" not in os.environ, reason="RETAIL_EXPORT does not name the December export")
def test_the_december_export_is_accounted_for():
    export = read_export(Path(os.environ["RETAIL_EXPORT"]))
    export.check()
    assert (export.lines_read, len(export.invoices), export.broken) == (42_481, 2_025, [])
    assert (export.kinds[SALE], export.kinds[RETURN], export.kinds[NO_PRICE]) == (41_310, 698, 203)


def test_an_export_whose_lines_are_not_all_accounted_for_is_not_used(tmp_path):
    export = read_export(write(tmp_path / "export.csv", line("900001"), line("900002")))
    export.lines_read += 1
    with pytest.raises(AssertionError, match="3 lines were read, but 2 are accounted for"):
        export.check()
