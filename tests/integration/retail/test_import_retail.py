"""``manage.py import_retail`` loads a shop export once, reports unreadable lines, and leaves stock in use alone."""

import io
import uuid
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from store.models import Customer, Order, PriceChange, Product, Stock, StockMovement
from tests.retail_files import line, write

pytestmark = pytest.mark.django_db

LINES = [
    line("900001", "10001", "BLUE TEAPOT", 6, "2.50", "70001", "Norway"),
    line("900001", "10002a", "RED MUG", 2, "1.00", "70001", "Norway"),
    line("900001", "POST", "POSTAGE", 1, "18.00", "70001", "Norway"),
    line("900002", "10001", "BLUE TEAPOT WITH LID", 3, "3.00", "", "France"),
    line("900002", "10001", "BLUE TEAPOT", 1, "2.50", "", "France"),
    line("900003", "10003", "?", -9, "0", "", "United Kingdom"),
    line("900004", "10004", "FOUND", 4, "0", "", "United Kingdom"),
    line("C900005", "10002A", "RED MUG", -1, "1.00", "70002", "Spain"),
    "900006,10001,not,enough",
]


def load(path, *arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("import_retail", str(path), *arguments, verbosity=0, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def export(tmp_path):
    return write(tmp_path / "export.csv.gz", *LINES)


def test_products_have_the_most_frequent_title_and_price(export):
    load(export)
    assert list(Product.objects.order_by("sku").values_list("sku", "title", "slug", "unit_price", "collection")) == [
        ("10001", "BLUE TEAPOT", "blue-teapot-10001", Decimal("2.50"), None),
        ("10002A", "RED MUG", "red-mug-10002a", Decimal("1.00"), None),
    ]


def test_customers_are_users_who_cannot_sign_in_with_a_password(export):
    load(export)
    assert list(Customer.objects.order_by("user__username").values_list("user__username", "country")) == [
        ("retail-70001", "Norway"),
        ("retail-70002", "Spain"),
        ("retail-guest-900002", "France"),
    ]
    assert not any(user.has_usable_password() for user in get_user_model().objects.all())


def test_an_import_is_no_registration_and_no_order(export):
    load(export)
    assert not DurableTask.objects.exists()
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "teapots", "mugs"),
    [
        ([], 10, 2),
        (["--stock", "enough", "--replays", "3"], 30, 6),
        (["--stock", "scarce"], 5, 1),
        (["--limit", "1"], 6, 2),
    ],
)
def test_opening_stock_meets_every_sale_or_half_of_them(export, arguments, teapots, mugs):
    load(export, *arguments)
    assert dict(Stock.objects.values_list("product__sku", "on_hand")) == {"10001": teapots, "10002A": mugs}


def test_the_summary_accounts_for_every_line(export):
    out, err = load(export)
    counts = [int(row.split()[0]) for row in out.splitlines() if row.startswith(" ")]
    assert counts[0] == sum(counts[1:]) == len(LINES)
    for row in (
        "4  loaded",
        "1  not loaded: not a product: code POST",
        "1  not loaded: no price",
        "1  not loaded: negative quantity outside a cancellation",
        "1  not loaded: a return",
        "1  not loaded: broken",
    ):
        assert row in out
    assert err == "line 10: 4 columns instead of 8\n"


def test_a_second_import_changes_nothing(export):
    load(export)
    before = [list(model.objects.order_by("pk").values()) for model in (get_user_model(), Customer, Product, Stock)]
    out, _ = load(export)
    after = [list(model.objects.order_by("pk").values()) for model in (get_user_model(), Customer, Product, Stock)]
    assert after == before
    assert "customers: 3 unchanged\nproducts: 2 unchanged\nstock: 2 unchanged" in out


def test_a_later_export_updates_titles_prices_and_untouched_stock(export, tmp_path):
    load(export)
    later = write(
        tmp_path / "later.csv",
        line("900007", "10001", "GREEN TEAPOT", 5, "2.50"),
        line("900007", "10002A", "RED MUG", 7, "1.25"),
    )
    out, _ = load(later)
    assert "products: 1 price changed, 1 title changed" in out
    assert list(Product.objects.order_by("sku").values_list("title", "unit_price", "stock__on_hand")) == [
        ("GREEN TEAPOT", Decimal("2.50"), 5),
        ("RED MUG", Decimal("1.25"), 7),
    ]


def test_what_an_import_makes_and_changes_is_on_record(export, tmp_path):
    load(export)
    teapot = Product.objects.get(sku="10001")
    [made] = AuditEntry.objects.filter(model="store.product", object_id=teapot.pk)
    assert (made.what, made.before, made.after["sku"], made.after["unit_price"]) == ("created", {}, "10001", "2.50")
    [stocked] = AuditEntry.objects.filter(model="store.stock", object_id=teapot.pk)
    assert (stocked.what, stocked.after["on_hand"]) == ("created", 10)
    load(write(tmp_path / "later.csv", line("900007", "10001", "BLUE TEAPOT", 5, "2.75")))
    dearer = AuditEntry.objects.filter(model="store.product", object_id=teapot.pk).latest("id")
    assert (dearer.what, dearer.before, dearer.after) == ("changed", {"unit_price": "2.50"}, {"unit_price": "2.75"})
    fewer = AuditEntry.objects.filter(model="store.stock", object_id=teapot.pk).latest("id")
    assert (fewer.what, fewer.before, fewer.after) == ("changed", {"on_hand": 10}, {"on_hand": 5})
    count = AuditEntry.objects.count()
    load(tmp_path / "later.csv")
    assert AuditEntry.objects.count() == count


@pytest.mark.once
def test_ten_thousand_changed_prices_are_ten_thousand_records_at_a_constant_cost_a_thousand(tmp_path):
    def export(name, price, products):
        lines = (line(str(900_000 + n // 50), f"{10_000 + n}", price=price) for n in range(products))
        return write(tmp_path / name, *lines)

    def cost(path):
        with CaptureQueriesContext(connection) as captured:
            load(path)
        return len(captured)

    load(export("all.csv", "2.00", 10_000))
    recorded = AuditEntry.objects.count()
    of_two_thousand = cost(export("some.csv", "3.00", 2_000))
    of_one_thousand = of_two_thousand - cost(export("few.csv", "3.50", 1_000))
    of_all = cost(export("dearer.csv", "4.00", 10_000))
    assert PriceChange.objects.count() == 13_000
    assert PriceChange.objects.filter(new="4.00").count() == 10_000
    changed = AuditEntry.objects.filter(model="store.product", what="changed")
    assert changed.filter(after__unit_price="4.00").count() == 10_000
    assert AuditEntry.objects.count() >= recorded + 13_000
    assert of_all == of_two_thousand + 8 * of_one_thousand
    assert of_one_thousand <= (20 if connection.vendor == "postgresql" else 40)


def test_stock_that_is_reserved_or_has_moved_is_left_alone(export):
    load(export)
    order = Order.objects.create(customer=Customer.objects.first(), cart_id=uuid.uuid4(), total=1)
    StockMovement.objects.create(
        product=Product.objects.get(sku="10001"), order=order, quantity=-1, reason=StockMovement.Reason.SALE
    )
    Stock.objects.filter(product__sku="10001").update(on_hand=9)
    Stock.objects.filter(product__sku="10002A").update(reserved=1)
    out, _ = load(export, "--stock", "scarce")
    assert "stock: 2 left alone: in use" in out
    assert dict(Stock.objects.values_list("product__sku", "on_hand")) == {"10001": 9, "10002A": 2}


def test_an_imported_user_without_a_profile_is_given_one(export):
    get_user_model().objects.create_user("retail-70001", email="kept@example.org")
    Customer.objects.filter(user__username="retail-70001").delete()
    load(export)
    assert Customer.objects.get(user__username="retail-70001").user.email == "kept@example.org"


def test_the_number_of_queries_does_not_grow_with_the_lines(tmp_path):
    def queries(invoices):
        lines = [
            line(str(number), str(10_000 + number), customer=str(70_000 + number)) for number in range(1, invoices + 1)
        ]
        path = write(tmp_path / f"{invoices}.csv", *(each for each in lines for _ in range(3)))
        with CaptureQueriesContext(
            connection,
        ) as captured:
            load(path)
        for model in (Stock, Product, Customer, get_user_model()):
            model.objects.all().delete()
        return len(captured)

    few, many = queries(5), queries(400)
    # SQLite takes a limited number of parameters a statement, and so several statements.
    assert many <= few + (0 if connection.vendor == "postgresql" else 30)


@pytest.mark.parametrize(
    ("name", "raw", "why"),
    [
        ("export.csv.gz", b"plain", "not a whole gzip file"),
        ("export.csv", b"a,b\n1,2\n", "does not name InvoiceNo"),
        (None, b"", "There is no file"),
    ],
)
def test_a_file_that_is_no_export_changes_nothing_and_says_so_in_a_sentence(tmp_path, name, raw, why):
    if name:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(CommandError, match=why) as refusal:
        load(tmp_path / (name or "none.csv"))
    assert refusal.value.returncode == 1
    assert "\n" not in str(refusal.value)
    assert not Product.objects.exists()


def test_an_import_that_cannot_finish_loads_nothing(export):
    get_user_model().objects.create_user("somebody", email="retail-guest-900002@retail.example")
    with pytest.raises(CommandError, match="Nothing was loaded"):
        load(export)
    assert not get_user_model().objects.filter(username="retail-70001").exists()
    assert not Product.objects.exists()


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5"])
def test_a_limit_is_a_whole_number_above_zero(export, limit):
    with pytest.raises(CommandError, match="not a whole number above zero"):
        load(export, f"--limit={limit}")


def test_progress_goes_to_stderr(export, capsys):
    call_command("import_retail", str(export), stdout=io.StringIO(), stderr=io.StringIO())
    assert "import: 100%" in capsys.readouterr().err
