"""``manage.py replay_retail`` makes one order of each invoice that sells, whatever the network does to it."""

import io
import json
import threading
from types import SimpleNamespace

import httpx
import pytest
from django.core.management import CommandError, call_command

from celery_ledger.testing import drain
from payments.fake import FakeProvider
from payments.models import Payment
from retail.accounts import Accounts
from retail.client import AnswerLostError, GaveUpError
from retail.export import read_export
from retail.replayer import Outcome, Replayer, Result
from store.models import Cart, Order, OrderItem, Stock
from tests.faulty_proxy import LOST, UNHEARD, Canned, faulty_proxy
from tests.retail_files import line, write
from webhooks.signing import make_secret

pytestmark = pytest.mark.django_db(transaction=True)

TWO_SALES = [
    line("900001", "10001", quantity=6),
    line("900001", "10002", "RED MUG", 4),
    line("900001", "10001", quantity=1),
    line("900002", "10001", quantity=2, customer="70002"),
]


@pytest.fixture
def shop(live_server):
    with faulty_proxy(live_server.url) as proxy:
        yield proxy


@pytest.fixture
def export(tmp_path):
    """Write an export and import it."""

    def write_and_import(*lines, stock="enough", replays=1):
        path = write(tmp_path / "export.csv.gz", *lines)
        call_command(
            "import_retail", path, stock=stock, replays=replays, verbosity=0, stdout=io.StringIO(), stderr=io.StringIO()
        )
        return path

    return write_and_import


def replay(path, shop, *arguments):
    """Return the accounts of a replay and, where it ended with exit code 1, why."""
    out, complaint = io.StringIO(), ""
    try:
        call_command("replay_retail", str(path), f"--url={shop.url}", "--json", *arguments, verbosity=0, stdout=out)
    except CommandError as error:
        complaint = str(error)
    return SimpleNamespace(complaint=complaint, **json.loads(out.getvalue()))


def lines_of(order_id):
    return dict(OrderItem.objects.filter(order_id=order_id).values_list("product__sku", "quantity"))


def test_every_invoice_and_every_line_is_in_one_class(export, shop):
    path = export(
        *TWO_SALES,
        line("900001", "POST", price="18"),
        line("900003", "10001", "?", -9, "0", ""),
        line("900004", "10002", "RED MUG", 3, customer=""),
        line("C900005", "10001", quantity=-2, customer="70002"),
        line("C900006", "10002", "RED MUG", -4),
        line("C900007", "10002", "RED MUG", -1, customer="70002"),
        line("C900008", "D", "Discount", -1, "5"),
        line("C900009", "10001", quantity=-1, customer=""),
        line("C900010", "10001", quantity=-1),
        "broken",
        line("900011", "10001", quantity=2, customer="70002"),
    )
    told = replay(path, shop)
    assert told.complaint == ""
    assert told.invoices == {
        Outcome.PLACED: 4,
        Outcome.NOT_A_SALE: 1,
        Outcome.CANCELLED_WHOLE: 1,
        Outcome.CANCELLED_PART: 1,
        Outcome.BOUGHT_BEFORE: 1,
        Outcome.NO_GOODS: 1,
        Outcome.NO_CUSTOMER: 1,
        Outcome.IN_NO_ONE_ORDER: 1,
    }
    assert told.lines == {
        "sale: placed": 6,
        "not a product: code POST": 1,
        "not a product: code D": 1,
        "negative quantity outside a cancellation": 1,
        f"return: {Outcome.CANCELLED_WHOLE}": 1,
        f"return: {Outcome.CANCELLED_PART}": 1,
        f"return: {Outcome.BOUGHT_BEFORE}": 1,
        f"return: {Outcome.NO_CUSTOMER}": 1,
        f"return: {Outcome.IN_NO_ONE_ORDER}": 1,
        "broken": 1,
    }
    assert sum(told.invoices.values()) == told.invoices_read == 11
    assert sum(told.lines.values()) == told.lines_read == 15
    assert told.broken_lines == [{"line": 15, "reason": "1 columns instead of 8"}]


def test_orders_are_what_the_invoices_say(export, shop):
    told = replay(export(*TWO_SALES), shop)
    assert lines_of(told.orders["900001"]) == {"10001": 7, "10002": 4}
    assert lines_of(told.orders["900002"]) == {"10001": 2}
    assert Order.objects.get(pk=told.orders["900002"]).customer.user.username == "retail-70002"
    assert Order.objects.count() == told.placed == 2
    assert not Cart.objects.exists()
    drain()
    assert not Stock.objects.exclude(on_hand=0, reserved=0).exists()


def test_a_cancellation_follows_its_order_and_gives_the_stock_back(export, shop):
    told = replay(export(line("900001", quantity=5), line("C900002", quantity=-5)), shop, "--concurrency=4")
    assert told.cancelled_whole == 1
    assert Order.objects.get().status == Order.Status.CANCELLED
    drain()
    assert Stock.objects.values_list("on_hand", "reserved").get() == (5, 0)


def test_the_shop_flags_a_customers_same_order_again(export, shop):
    told = replay(export(line("900001"), line("900002")), shop)
    assert (told.placed, told.duplicates_flagged) == (2, 1)


def test_a_checkout_whose_answer_is_lost_is_one_order(export, shop):
    path = export(line("900001", quantity=5), replays=2)
    shop.faults = [("POST", "/api/orders/", LOST)]
    told = replay(path, shop)
    assert told.complaint == ""
    assert (told.placed, told.replayed_answers, told.retries) == (1, 1, {"connection lost": 1})
    assert Order.objects.get().pk == told.orders["900001"]
    assert shop.count("POST", "/api/orders/") == 2
    drain()
    assert Stock.objects.values_list("on_hand", "reserved").get() == (5, 0)


def test_a_line_whose_answer_is_lost_is_not_bought_twice(export, shop):
    path = export(*TWO_SALES)
    shop.faults = [("POST", "/items/", LOST), ("POST", "/items/", LOST)]
    told = replay(path, shop, "--concurrency=1")
    assert told.complaint == ""
    assert told.carts_rebuilt == 2
    assert lines_of(told.orders["900001"]) == {"10001": 7, "10002": 4}
    assert Order.objects.count() == 2


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (UNHEARD, "connection lost"),
        (LOST, "connection lost"),
        (Canned(502), "status 502"),
        (Canned(503), "status 503"),
        (Canned(504, b"<html>"), "status 504"),
        (Canned(429, headers={"Retry-After": "0"}), "status 429"),
    ],
)
def test_whatever_the_trouble_the_accounts_come_out_the_same(export, shop, fault, cause):
    written = export(line("900001", quantity=5), line("C900002", quantity=-5))
    shop.faults = [("POST", path, fault) for path in ("/cancel/", "/items/", "/api/carts/", "/api/orders/")]
    told = replay(written, shop)
    assert told.complaint == ""
    assert (told.placed, told.cancelled_whole, told.retries) == (1, 1, {cause: 4})
    assert shop.faults == []
    assert lines_of(told.orders["900001"]) == {"10001": 5}
    assert Order.objects.get().status == Order.Status.CANCELLED
    drain()
    assert Stock.objects.values_list("on_hand", "reserved").get() == (5, 0)


def test_a_checkout_that_is_still_running_is_asked_for_again(export, shop):
    path = export(line("900001"))
    shop.faults = [("POST", "/api/orders/", Canned(409, b'{"detail": "still running"}'))]
    told = replay(path, shop)
    assert (told.complaint, told.placed, told.retries) == ("", 1, {"status 409": 1})


def test_an_unexpected_answer_fails_its_invoice_alone(export, shop):
    path = export(*TWO_SALES)
    shop.faults = [("POST", "/api/orders/", Canned(500, b'{"detail": "Something broke."}'))]
    told = replay(path, shop, "--concurrency=1")
    assert told.complaint == "1 invoices failed."
    assert told.failures == [{"invoice": "900001", "status": 500, "detail": "POST /api/orders/: Something broke."}]
    assert told.invoices == {Outcome.FAILED: 1, Outcome.PLACED: 1}


def test_an_order_of_other_goods_than_the_invoices_is_a_failure(export, shop):
    path = export(line("900001"))
    body = b'{"id": 1, "duplicate": false, "items": [{"sku": "10001", "quantity": 2}]}'
    shop.faults = [("POST", "/api/orders/", Canned(201, body))]
    told = replay(path, shop)
    assert told.failures[0]["detail"] == "order 1 has other goods than the invoice"


def test_a_shop_that_stays_away_fails_the_invoice_when_patience_ends(export, shop):
    path = export(*TWO_SALES)
    shop.faults = [("POST", "/api/orders/", UNHEARD)] * 10
    told = replay(path, shop, "--patience=1", "--concurrency=1")
    assert told.invoices == {Outcome.FAILED: 2}
    assert "connection lost, for 1 s" in told.failures[0]["detail"]
    assert told.complaint == "2 invoices failed."


def test_scarce_stock_refuses_some_orders_and_that_is_no_failure(export, shop):
    path = export(
        line("900001", quantity=4),
        line("900002", quantity=4),
        line("C900003", quantity=-4),
        line("C900004", quantity=-4),
        stock="scarce",
    )
    told = replay(path, shop)
    assert told.complaint == ""
    assert told.invoices == {
        Outcome.PLACED: 1,
        Outcome.REFUSED: 1,
        Outcome.CANCELLED_WHOLE: 1,
        Outcome.ORDER_NOT_PLACED: 1,
    }


def test_a_run_repeated_by_its_name_places_nothing_new(export, shop):
    path = export(*TWO_SALES, line("C900003", quantity=-7), replays=2)
    first = replay(path, shop, "--run=drill", "--limit=1")
    second = replay(path, shop, "--run=drill")
    third = replay(path, shop, "--run=drill")
    assert (first.placed, second.placed, third.placed) == (1, 1, 0)
    assert second.invoices == {Outcome.PLACED: 1, Outcome.PLACED_EARLIER: 1, Outcome.ORDER_EARLIER: 1}
    assert third.invoices == {Outcome.PLACED_EARLIER: 2, Outcome.ORDER_EARLIER: 1}
    assert Order.objects.count() == 2
    fresh = replay(path, shop, "--limit=1")
    assert (fresh.complaint, fresh.placed) == ("", 1)


def test_a_replay_that_is_stopped_says_what_it_did_not_reach(export, shop):
    replayer = Replayer(read_export(export(*TWO_SALES)), url=shop.url, run="stopped")
    replayer.prepare()
    replayer.stop.set()
    replayer.start()
    results = [replayer.next_result() for _ in replayer.export.invoices]
    replayer.wait()
    accounts = Accounts(replayer, results, seconds=1.0)
    assert accounts.invoices == {Outcome.NOT_REACHED: 2}
    assert accounts.lines == {f"sale: {Outcome.NOT_REACHED}": 4}
    assert accounts.imbalances == []
    assert not Order.objects.exists()


def test_accounts_that_do_not_balance_say_so(export, shop):
    replayer = Replayer(read_export(export(*TWO_SALES)), url=shop.url, run="short")
    assert Accounts(replayer, [], seconds=1.0).imbalances == [
        "2 invoices were read, 0 are accounted for.",
        "4 lines were read, 0 are accounted for.",
    ]


def test_one_order_for_two_invoices_is_named(export, shop):
    replayer = Replayer(read_export(export(*TWO_SALES)), url=shop.url, run="twice")
    results = [Result(invoice, Outcome.PLACED, order_id=7) for invoice in replayer.export.invoices.values()]
    assert Accounts(replayer, results, seconds=1.0).imbalances == ["Two invoices were answered with one order."]


def test_a_mistake_of_ours_ends_the_replay(export, shop, monkeypatch):
    def trip(replayer, client, invoice):
        raise ZeroDivisionError("a slip")

    path = export(*TWO_SALES)
    monkeypatch.setattr(Replayer, "_handle", trip)
    with pytest.raises(ZeroDivisionError, match="a slip"):
        call_command("replay_retail", str(path), f"--url={shop.url}", verbosity=0)


def test_an_interrupt_ends_it_after_the_calls_under_way_and_a_second_one_at_once(export, shop, monkeypatch):
    next_result, interrupts = Replayer.next_result, [KeyboardInterrupt()]

    def interrupted(replayer):
        if interrupts:
            raise interrupts.pop()
        return next_result(replayer)

    path = export(*TWO_SALES)
    monkeypatch.setattr(Replayer, "next_result", interrupted)
    assert "invoices were not reached." in replay(path, shop, "--concurrency=1").complaint
    interrupts += [KeyboardInterrupt(), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        call_command("replay_retail", str(path), f"--url={shop.url}", verbosity=0)


def refusal(path, url):
    with pytest.raises(CommandError) as error:
        call_command("replay_retail", str(path), f"--url={url}", "--patience=1", verbosity=0)
    assert error.value.returncode == 1
    assert str(error.value).startswith("Nothing was placed. ")
    return str(error.value)


def test_what_was_not_imported_is_not_replayed(export, shop, tmp_path):
    strangers = write(tmp_path / "strangers.csv", line(customer="70009"))
    assert "1 of 1 customers of this export are not in the database, such as retail-70009" in refusal(
        strangers, shop.url
    )
    export(line("900001"))
    more = write(tmp_path / "more.csv", line("900001"), line("900001", "10009"))
    assert "1 of 2 products of this export are not in the shop, such as 10009" in refusal(more, shop.url)


def test_a_shop_that_does_not_know_us_or_is_not_there_is_not_replayed_to(export, shop):
    path = export(line("900001"))
    shop.faults = [("GET", "/api/customers/me/", Canned(401))]
    assert "does not know retail-70001 (status 401)" in refusal(path, shop.url)
    assert "does not answer as it should" in refusal(path, "http://127.0.0.1:9")
    assert "There is no file" in refusal(path.with_name("none.csv"), shop.url)


@pytest.mark.parametrize(
    "argument", ["--url=ftp://x", "--url=nowhere", "--url=http://[::", "--run=a/b", "--concurrency=0", "--limit=x"]
)
def test_an_argument_that_makes_no_sense_is_refused(argument):
    with pytest.raises(CommandError, match=argument.partition("=")[0]):
        call_command("replay_retail", "export.csv", argument, verbosity=0)


def test_a_person_reads_what_failed_and_which_lines_are_none(export, shop):
    path = export(line("900001"), line("900002", quantity="many"))
    shop.faults = [("POST", "/api/orders/", Canned(500, b"<html>"))]
    out = io.StringIO()
    with pytest.raises(CommandError, match="1 invoices failed"):
        call_command("replay_retail", str(path), f"--url={shop.url}", verbosity=0, stdout=out)
    assert "failed invoice 900001: 500 POST /api/orders/" in out.getvalue()
    assert "broken line 3: " in out.getvalue()


def test_a_cancellation_that_the_shop_refuses_is_a_failure_and_the_order_stands(export, shop):
    path = export(line("900001", quantity=2), line("C900002", quantity=-2))
    shop.faults = [("POST", "/cancel/", Canned(409, b'{"detail": "It has left."}'))]
    told = replay(path, shop)
    assert told.failures == [
        {
            "invoice": "C900002",
            "status": 409,
            "detail": f"POST /api/orders/{Order.objects.get().id}/cancel/: It has left.",
        }
    ]
    assert Order.objects.get().status == Order.Status.PLACED


def test_a_replay_that_is_stopped_while_it_fills_a_cart_anew_gives_up(export, shop, monkeypatch):
    class Losing:
        stop = threading.Event()

        def call(self, method, path, **_):
            if path.endswith("/items/"):
                raise AnswerLostError("connection lost")
            return httpx.Response(201, json={"id": "a cart"})

    replayer = Replayer(read_export(export(*TWO_SALES)), url=shop.url, run="stopped")
    replayer.prepare()
    Losing.stop.set()
    with pytest.raises(GaveUpError, match="while it filled a cart"):
        replayer._fill_cart(Losing(), next(iter(replayer.export.invoices.values())), {})
    monkeypatch.setattr("retail.replayer.MOST_CARTS", 1)
    with pytest.raises(AnswerLostError):
        replayer._fill_cart(Losing(), next(iter(replayer.export.invoices.values())), {})


def test_an_export_that_sells_nothing_needs_no_buyers(tmp_path, shop):
    export = read_export(write(tmp_path / "export.csv", line("C900001", quantity=-1)))
    Replayer(export, url=shop.url, run="returns").prepare()


def test_a_person_reads_a_table_and_sees_the_progress(export, shop, capsys):
    out = io.StringIO()
    call_command("replay_retail", str(export(*TWO_SALES)), f"--url={shop.url}", stdout=out)
    assert "         2    placed\n" in out.getvalue()
    assert "         4    sale: placed\n" in out.getvalue()
    progress = capsys.readouterr().err
    assert "replay: 100%" in progress
    assert "orders/s" in progress


def test_in_a_shop_that_takes_payments_each_order_is_paid_once_over_the_api(export, shop, settings):
    settings.PAYMENT_SECRET = make_secret()
    path = export(
        *TWO_SALES,
        line("900003", "10001", quantity=3, customer="70003"),
        line("C900004", "10001", quantity=-3, customer="70003"),
        line("900005", "10001", quantity=1, customer="70004"),
    )
    with FakeProvider(0, "http://127.0.0.1:1/", settings.PAYMENT_SECRET) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        settings.PAYMENT_URL = provider.url
        open_ended = replay(path, shop, "--run=paying", "--patience=1")
        assert open_ended.complaint == "4 payments are not settled."
        Payment.objects.filter(order=open_ended.orders["900001"]).update(asked_at=None)  # As if it had died before.
        provider.moods = ["decline"]
        drain()  # The worker.
        told = replay(path, shop, "--run=paying", "--patience=1")
        assert told.complaint == "2 payments are not settled."  # One was not asked for, and one was declined.
        drain()
        told = replay(path, shop, "--run=paying", "--patience=1")
    assert told.invoices["placed by an earlier replay of this run"] == 4
    assert open_ended.cancelled_whole == 1
    assert sorted(Order.objects.values_list("status", flat=True)) == ["expired", "placed", "placed", "placed"]
    assert sorted(Payment.objects.values_list("status", flat=True)) == ["failed", "paid", "paid", "paid"]
    assert (provider.captured.total(), provider.refunded.total(), len(provider.charges)) == (3, 0, 5)
