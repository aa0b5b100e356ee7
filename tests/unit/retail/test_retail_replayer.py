"""What the replay decides without a shop: whose turn it is, what a cancellation cancels, what a time is."""

import threading

import pytest

from retail.accounts import pick_percentile
from retail.export import read_lines
from retail.replayer import Outcome, Purchase, Turns, find_purchase
from tests.retail_files import content, line


def invoices(*lines):
    return list(read_lines(content(*lines).splitlines(keepends=True)).invoices.values())


def test_a_customers_next_invoice_waits_for_the_one_before():
    turns = Turns(
        invoices(
            line("900001", customer="70001"),
            line("C900002", customer="70001"),
            line("900003", customer="70002"),
            line("900004", customer=""),
        )
    )
    first, second, third = turns.take(), turns.take(), turns.take()
    assert [first.number, second.number, third.number] == ["900001", "900003", "900004"]
    turns.done(third)
    turns.done(second)
    turns.done(first)
    last = turns.take()
    assert last.number == "C900002"
    turns.done(last)
    assert turns.take() is None
    assert turns.take() is None


def test_without_invoices_nobody_waits():
    assert Turns([]).take() is None


def test_many_clients_take_every_invoice_once_and_never_two_of_a_customer():
    lines = [line(str(900_000 + number), customer=str(70_000 + number % 7)) for number in range(210)]
    turns = Turns(invoices(*lines))
    taken, busy, overlaps = [], set(), []

    def serve():
        while (invoice := turns.take()) is not None:
            if invoice.username in busy:
                overlaps.append(invoice.number)
            busy.add(invoice.username)
            taken.append(invoice)
            busy.discard(invoice.username)
            turns.done(invoice)

    clients = [threading.Thread(target=serve) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(timeout=30)
    assert overlaps == []
    assert len(taken) == len({invoice.number for invoice in taken}) == 210
    for customer in range(7):
        numbers = [invoice.number for invoice in taken if invoice.customer == str(70_000 + customer)]
        assert numbers == sorted(numbers)


MUGS, POTS = Purchase({"10001": 6}, Outcome.PLACED, 1), Purchase({"10001": 6, "10002": 2}, Outcome.PLACED, 2)


@pytest.mark.parametrize(
    ("purchases", "returned", "found"),
    [
        ([MUGS, POTS], {"10001": 6}, POTS),
        ([POTS, MUGS], {"10001": 6}, MUGS),
        ([POTS, MUGS], {"10001": 1, "10002": 1}, POTS),
        ([POTS, MUGS], {"10001": 7}, Outcome.IN_NO_ONE_ORDER),
        ([POTS, MUGS], {"10001": 13}, Outcome.BOUGHT_BEFORE),
        ([POTS, MUGS], {"10003": 1}, Outcome.BOUGHT_BEFORE),
        ([], {"10001": 1}, Outcome.BOUGHT_BEFORE),
        ([Purchase({"10001": 6}, Outcome.PLACED, None)], {"10001": 1}, Outcome.IN_NO_ONE_ORDER),
        ([Purchase({"10001": 6}, Outcome.REFUSED, None)], {"10001": 1}, Outcome.ORDER_NOT_PLACED),
        ([Purchase({"10001": 6}, Outcome.FAILED, 9)], {"10001": 1}, Outcome.ORDER_NOT_PLACED),
        ([Purchase({"10001": 6}, Outcome.PLACED_EARLIER, None)], {"10001": 1}, Outcome.ORDER_EARLIER),
        ([MUGS, Purchase({"10001": 6}, Outcome.REFUSED, None)], {"10001": 1}, MUGS),
    ],
)
def test_a_cancellation_finds_the_latest_open_order_that_has_all_it_returns(purchases, returned, found):
    assert find_purchase(purchases, returned) is found


@pytest.mark.parametrize(("share", "value"), [(50, 50), (95, 95), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(share, value):
    assert pick_percentile([float(number) for number in range(1, 101)], share) == value
    assert pick_percentile([7.0], share) == 7.0
