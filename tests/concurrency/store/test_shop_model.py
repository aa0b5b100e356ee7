"""
The shop against a model of it in plain Python: carts, checkouts, cancellations, settling, alone and at once.

Hypothesis generates the clients' actions. For a single client, the shop must respond exactly as the model does. For
several at once, it must respond as if they had acted one after the other, in some order. After each step the stock in
the database is the model's.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from celery_ledger.promises import promises
from store.models import Order, Stock, StockMovement
from store.tasks import update_inventory
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

PRODUCTS = 3
QUANTITY = st.integers(1, 4)
PRODUCT = st.integers(0, PRODUCTS - 1)
BUYER = st.integers(0, 1)


@dataclass
class Model:
    """What the shop should know. Products and buyers are numbers, carts and orders have names."""

    on_hand: list[int]
    reserved: list[int] = field(default_factory=lambda: [0] * PRODUCTS)
    carts: dict[str, Counter] = field(default_factory=dict)
    ordered: dict[str, Counter] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)

    def check_out(self, cart: str) -> int:
        if cart in self.ordered:
            return 200
        lines = self.carts[cart]
        if not lines:
            return 400
        if self.short(cart):
            return 409
        for product, quantity in lines.items():
            self.reserved[product] += quantity
        self.ordered[cart], self.status[cart] = self.carts.pop(cart), "placed"
        return 201

    def short(self, cart: str) -> dict[int, tuple[int, int]]:
        """Return asked and available of each product that falls short."""
        available = {product: self.on_hand[product] - self.reserved[product] for product in self.carts[cart]}
        return {p: (n, available[p]) for p, n in self.carts[cart].items() if n > available[p]}

    def cancel(self, cart: str) -> int:
        if self.status[cart] == "cancelled":
            return 409
        for product, quantity in self.ordered[cart].items():
            if cart in self.settled:
                self.on_hand[product] += quantity
            else:
                self.reserved[product] -= quantity
        self.status[cart] = "cancelled"
        return 200

    def settle(self, cart: str) -> int:
        if self.status[cart] == "placed" and cart not in self.settled:
            self.settled.add(cart)
            for product, quantity in self.ordered[cart].items():
                self.on_hand[product] -= quantity
                self.reserved[product] -= quantity
        return 0


class Shop(RuleBasedStateMachine):
    carts = Bundle("carts")
    #: Carts whose checkout was tried. Which of those that try at once become orders is for the database
    #: to say, and what Hypothesis draws from must not depend on it.
    orders = Bundle("orders")

    def __init__(self):
        super().__init__()
        self.products = [make_product(stock=6, price="1.25") for _ in range(PRODUCTS)]
        self.buyers = [make_customer() for _ in range(2)]
        self.model = Model(on_hand=[6] * PRODUCTS)
        self.buyer_of, self.order_of = {}, {}

    # --- What is done to the shop ---

    def do(self, deed):
        """Do a deed to the real shop; return the status of the answer, 0 for the machine's own work."""
        what, cart = deed
        if what == "settle":
            with transaction.atomic():  # As the consumer runs it.
                update_inventory([self.order_of[cart]])
            return 0
        client = api(self.buyers[self.buyer_of[cart]])
        if what == "cancel":
            return client.post(f"/api/orders/{self.order_of[cart]}/cancel/").status_code
        answer = check_out(client, cart)
        if answer.status_code in {200, 201}:
            told = self.order_of.setdefault(cart, answer.json()["id"])
            assert told == answer.json()["id"], "One cart has made two orders."
        return answer.status_code

    @rule(target=carts, buyer=BUYER, lines=st.dictionaries(PRODUCT, QUANTITY, min_size=0))
    def fill_a_cart(self, buyer, lines):
        lines = {self.products[product]: quantity for product, quantity in lines.items()}
        cart = str(make_cart(lines, self.buyers[buyer]).pk)
        self.buyer_of[cart] = buyer
        self.model.carts[cart] = Counter({self.products.index(p): n for p, n in lines.items()})
        return cart

    @rule(cart=carts, product=PRODUCT, quantity=QUANTITY)
    def put_more_into_a_cart(self, cart, product, quantity):
        body = {"product_id": self.products[product].pk, "quantity": quantity}
        answer = api(self.buyers[self.buyer_of[cart]]).post(f"/api/carts/{cart}/items/", body, format="json")
        if cart in self.model.carts:
            assert answer.status_code == 201
            self.model.carts[cart][product] += quantity
            assert answer.json()["quantity"] == self.model.carts[cart][product]
        else:
            assert answer.status_code == 404

    @rule(target=orders, cart=carts, key=st.none() | st.just("key"))
    def check_a_cart_out(self, cart, key):
        short = self.model.short(cart) if cart in self.model.carts else {}
        lines = dict(self.model.carts.get(cart, {}))
        expected = self.model.check_out(cart)
        answer = check_out(api(self.buyers[self.buyer_of[cart]]), cart, key=key and f"{key} {cart}")
        if key and expected == 200 and answer.status_code == 201:
            assert answer.headers["Idempotent-Replayed"] == "true"
        else:
            assert answer.status_code == expected
        if expected == 409:
            told = {e["product"]: (e["requested"], e["available"]) for e in answer.json()["errors"]}
            assert told == {self.products[product].pk: numbers for product, numbers in short.items()}
        if expected == 201:
            order = answer.json()
            self.order_of[cart] = order["id"]
            assert {i["product"]: i["quantity"] for i in order["items"]} == {
                self.products[product].pk: quantity for product, quantity in lines.items()
            }
            assert order["total"] == f"{sum(lines.values()) * 1.25:.2f}"
        return cart

    @rule(cart=orders)
    def cancel_an_order(self, cart):
        if cart in self.order_of:
            expected = self.model.cancel(cart)
            assert self.do(("cancel", cart)) == expected

    @rule(cart=orders)
    def settle_an_order(self, cart):
        if cart in self.order_of:
            self.model.settle(cart)
            self.do(("settle", cart))

    @rule(
        target=orders,
        checkouts=st.lists(carts, min_size=1, max_size=3),
        others=st.lists(st.tuples(st.sampled_from(["cancel", "settle"]), orders), max_size=2),
    )
    def do_several_things_at_once(self, checkouts, others):
        deeds = [("check_out", cart) for cart in checkouts]
        deeds += [(what, cart) for what, cart in others if cart in self.order_of]
        statuses = all_at_once([lambda deed=deed: self.do(deed) for deed in deeds])
        stock = self.stock()
        for order in permutations(range(len(deeds))):
            model = copy.deepcopy(self.model)
            if (
                all(getattr(model, deeds[n][0])(deeds[n][1]) == statuses[n] for n in order)
                and (
                    model.on_hand,
                    model.reserved,
                )
                == stock
            ):
                self.model = model
                return multiple(*checkouts)
        raise AssertionError(f"No order of {deeds} answers {statuses} and leaves {stock}, after {self.model}.")

    # --- What is always true ---

    def stock(self):
        rows = Stock.objects.filter(product__in=self.products).order_by("product_id")
        on_hand, reserved = zip(*rows.values_list("on_hand", "reserved"), strict=True)
        return list(on_hand), list(reserved)

    @invariant()
    def the_stock_is_the_models(self):
        assert self.stock() == (self.model.on_hand, self.model.reserved)
        assert all(on_hand >= reserved >= 0 for on_hand, reserved in zip(*self.stock(), strict=True))

    @invariant()
    def every_order_is_as_the_model_has_it(self):
        told = {
            str(cart): status
            for cart, status in Order.objects.filter(customer__in=self.buyers).values_list("cart_id", "status")
        }
        assert told == self.model.status

    def teardown(self):
        """Settle what is open: then what left the shop is what was sold, and every promise about stock is kept."""
        for cart in self.model.status:
            self.model.settle(cart)
            self.do(("settle", cart))
        self.the_stock_is_the_models()
        moved = StockMovement.objects.filter(product__in=self.products).values_list("quantity", flat=True)
        assert sum(moved) == sum(self.model.on_hand) - 6 * PRODUCTS
        kept = [find for find in promises().values() if find.__module__ == "store.promises"]
        assert len(kept) == 6
        assert [line for find in kept for line in find()] == []


def test_the_shop_does_as_its_model():
    run_state_machine_as_test(
        Shop,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
