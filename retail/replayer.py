"""
Replay a shop's export as real checkouts over HTTP.

Called by ``manage.py replay_retail``. It uses the public API like any client; the database is read once, for the users
whose tokens are issued here. It promises that every invoice becomes at most one order, whatever process is killed
meanwhile: a cart with uncertain contents is discarded, and the checkout is repeated under one ``Idempotency-Key``.
Every invoice and every line ends in exactly one class of the accounts.
"""

import queue
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import httpx
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from rest_framework_simplejwt.tokens import AccessToken

from retail.client import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    AnswerLostError,
    GaveUpError,
    Meter,
    Shop,
    UnexpectedAnswerError,
    expect,
    read_object,
)
from retail.export import Export, Invoice

#: How long the token of an invoice's customer is valid; it is issued when the invoice's turn comes.
TOKEN_LIFETIME = timedelta(hours=2)
#: The payment statuses that are not final.
UNDECIDED = frozenset({"pending", "refund_due"})
#: How often a cart is rebuilt for one invoice before that counts as failed.
MOST_CARTS = 30


class Outcome(StrEnum):
    """The outcome of an invoice."""

    PLACED = "placed"
    PLACED_EARLIER = "placed by an earlier replay of this run"
    REFUSED = "refused: not enough stock"
    NOT_A_SALE = "not a sale: no line of it can be sold"
    CANCELLED_WHOLE = "cancelled an order: all of it was returned"
    CANCELLED_PART = "cancelled an order: only part of it was returned"
    BOUGHT_BEFORE = "cancels nothing: returns goods bought before this export"
    IN_NO_ONE_ORDER = "cancels nothing: no single open order has all that is returned"
    ORDER_NOT_PLACED = "cancels nothing: the order was refused or failed"
    ORDER_EARLIER = "cancels nothing: the order is of an earlier replay of this run"
    NO_CUSTOMER = "cancels nothing: names no customer"
    NO_GOODS = "cancels nothing: returns no product, but a fee or a discount"
    FAILED = "failed"
    NOT_REACHED = "not reached: the replay was stopped"


class ReplayError(Exception):
    """The replay cannot start; the text explains why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one invoice. ``status`` and ``detail`` describe a failure."""

    invoice: Invoice
    outcome: Outcome
    order_id: int | None = None
    duplicate: bool = False
    status: int | None = None
    detail: str = ""


@dataclass(slots=True)
class Purchase:
    """A sale of this replay, which a cancellation can find. ``order_id`` is None without an open order."""

    goods: dict[str, int]
    outcome: Outcome
    order_id: int | None

    def covers(self, returned: Mapping[str, int]) -> bool:
        return all(self.goods.get(sku, 0) >= quantity for sku, quantity in returned.items())


class Turns:
    """
    The order of work: invoices in the file's order, and one at a time for each customer.

    So a cancellation never overtakes the order that it cancels.
    """

    def __init__(self, invoices: Iterable[Invoice]) -> None:
        self.waiting: defaultdict[str, list[tuple[int, Invoice]]] = defaultdict(list)
        self.ready: queue.PriorityQueue[tuple[int, Invoice | None]] = queue.PriorityQueue()
        for place, invoice in enumerate(invoices):
            self.waiting[invoice.username].append((place, invoice))
        self.customers_left = len(self.waiting)
        self.lock = threading.Lock()
        for chain in self.waiting.values():
            chain.reverse()
            self.ready.put(chain.pop())
        if not self.customers_left:
            self.ready.put((-1, None))

    def take(self) -> Invoice | None:
        """Wait for the next invoice and return it; None when there are no more."""
        place, invoice = self.ready.get()
        if invoice is None:
            self.ready.put((place, None))  # For the next client that asks.
        return invoice

    def done(self, invoice: Invoice) -> None:
        """Release the same customer's next invoice."""
        chain = self.waiting[invoice.username]
        if chain:
            self.ready.put(chain.pop())
            return
        with self.lock:
            self.customers_left -= 1
            if not self.customers_left:
                self.ready.put((-1, None))


class Replayer:
    """
    One replay of an export.

    ``run`` names it in the Idempotency-Keys. With ``resumed``, each key is asked for first, and what an earlier
    replay of that name placed is not placed again. ``patience`` and ``timeout`` are seconds: for one call with its
    retries, and for one answer.
    """

    def __init__(
        self,
        export: Export,
        *,
        url: str,
        run: str,
        resumed: bool = False,
        concurrency: int = 8,
        patience: float = 120.0,
        timeout: float = 30.0,
    ) -> None:
        self.export = export
        self.url = url
        self.run = run
        self.resumed = resumed
        self.concurrency = concurrency
        self.patience = patience
        self.timeout = timeout
        self.stop = threading.Event()
        self.clients: list[threading.Thread] = []
        self.told: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self.meter = Meter()
        self.users: dict[str, AbstractBaseUser] = {}
        self.product_ids: dict[str, int] = {}
        self.purchases: defaultdict[str, list[Purchase]] = defaultdict(list)
        #: Orders for which a payment was requested, each with its customer.
        self.asked: dict[int, str] = {}

    def prepare(self) -> None:
        """
        Find the customers in the database and the products in the shop, and check that they match.

        Raises:
            ReplayError: the export was not imported, or the shop does not answer or does not know us.
        """
        buyers = {invoice.username for invoice in self.export.invoices.values() if invoice.sold}
        goods = {sku for invoice in self.export.invoices.values() for sku in invoice.sold}
        if not buyers:
            return
        self.users = _find_users(sorted(buyers))
        if missing := buyers - self.users.keys():
            raise ReplayError(
                f"{len(missing)} of {len(buyers)} customers of this export are not in the database, such as "
                f"{min(missing)}. Load it first: manage.py import_retail FILE"
            )
        shop = self._open_shop(patience=min(self.patience, 15.0))
        username = min(buyers)
        try:
            headers = self._headers(username, "prepare")
            response = shop.call("GET", "/api/customers/me/", headers=headers)
            if response.status_code != 200 or read_object(response).get("username") != username:
                raise ReplayError(
                    f"The shop at {self.url} does not know {username} (status {response.status_code}). "
                    "The replay must run with the DATABASE_URL and the SECRET_KEY of that shop."
                )
            self.product_ids = {
                product["sku"]: product["id"] for product in shop.pages("/api/products/?page_size=100", headers=headers)
            }
        except (GaveUpError, UnexpectedAnswerError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise ReplayError(f"The shop at {self.url} does not answer as it should: {error}") from error
        finally:
            shop.client.close()
        if unknown := goods - self.product_ids.keys():
            raise ReplayError(
                f"{len(unknown)} of {len(goods)} products of this export are not in the shop, such as "
                f"{min(unknown)}. Load it first: manage.py import_retail FILE"
            )

    def start(self) -> None:
        """Start the clients; :meth:`next_result` returns their results. Set ``stop`` to end them."""
        turns = Turns(self.export.invoices.values())
        self.clients = [
            threading.Thread(target=self._serve, args=(turns,), name=f"replay-client-{number}", daemon=True)
            for number in range(min(self.concurrency, len(self.export.invoices)))
        ]
        for client in self.clients:
            client.start()

    def next_result(self) -> Result:
        """
        Wait until one more invoice is done, and return its outcome; once for each invoice.

        Invoices that were not started before ``stop`` was set are reported as not reached.
        """
        result = self.told.get()
        if isinstance(result, BaseException):
            self.stop.set()
            raise result
        return result

    def wait(self) -> None:
        """Wait for the clients to finish, after the last result."""
        for client in self.clients:
            client.join()

    def wait_for_payments(self) -> None:
        """
        Wait until every payment is made or abandoned, within the time limit, and count them.

        A declined payment is tried again.
        """
        shop = self._open_shop(patience=self.patience)
        deadline = time.monotonic() + self.patience
        waiting = dict(self.asked)
        try:
            while waiting:
                for order_id, username in list(waiting.items()):
                    status = self._state_of_payment(shop, order_id, username)
                    if status not in UNDECIDED or time.monotonic() > deadline or self.stop.is_set():
                        self.meter.payments[status] += 1
                        del waiting[order_id]
                if waiting:
                    self.stop.wait(FIRST_PAUSE)
        finally:
            shop.client.close()

    def _state_of_payment(self, shop: Shop, order_id: int, username: str) -> str:
        headers = self._headers(username, f"payment {order_id}")
        try:
            answer = expect(shop.call("GET", f"/api/orders/{order_id}/payment/", headers=headers), 200)
            told = read_object(answer, "status", "declined_at")
            if told["declined_at"] and told["status"] == "pending":
                self._pay(shop, order_id, username, headers)
        except (GaveUpError, UnexpectedAnswerError, httpx.HTTPError):
            return "unknown"
        return str(told["status"])

    def _serve(self, turns: Turns) -> None:
        shop = self._open_shop(patience=self.patience)
        try:
            while (invoice := turns.take()) is not None:
                self.told.put(self._handle(shop, invoice))
                turns.done(invoice)
        except BaseException as error:  # noqa: BLE001 - a mistake of ours ends the replay, in the main thread
            self.told.put(error)
        finally:
            shop.client.close()

    def _handle(self, shop: Shop, invoice: Invoice) -> Result:
        if self.stop.is_set():
            return Result(invoice, Outcome.NOT_REACHED)
        try:
            result = self._cancel(shop, invoice) if invoice.is_cancellation else self._place(shop, invoice)
        except UnexpectedAnswerError as error:
            result = Result(invoice, Outcome.FAILED, status=error.status, detail=str(error))
        except (GaveUpError, AnswerLostError, httpx.HTTPError) as error:
            # If stopped while waiting, it is unknown whether the order was placed, so this is not "not reached".
            result = Result(invoice, Outcome.FAILED, detail=str(error))
        if invoice.sold:
            self.purchases[invoice.username].append(Purchase(invoice.sold, result.outcome, result.order_id))
        return result

    # --- A sale ---

    def _place(self, shop: Shop, invoice: Invoice) -> Result:
        goods = invoice.sold
        if not goods:
            return Result(invoice, Outcome.NOT_A_SALE)
        headers = self._headers(invoice.username, invoice.number)
        keyed = {**headers, "Idempotency-Key": f"retail:{self.run}:{invoice.number}"}
        if self.resumed and self._was_placed(shop, keyed):
            self._pay_what_waits(shop, invoice.username, headers)
            return Result(invoice, Outcome.PLACED_EARLIER)
        cart_id = self._fill_cart(shop, invoice, headers)
        response = self._check_out(shop, cart_id, keyed)
        if response.status_code == 409:  # Not a request that is still running: those were waited for.
            return Result(invoice, Outcome.REFUSED, status=409)
        body = read_object(expect(response, 200, 201), "id", "items", "duplicate")
        if "Idempotent-Replayed" in response.headers:
            self.meter.replayed_answers.append(invoice.number)
        order_id = body["id"]
        if body.get("status") == "unpaid":
            self._pay(shop, order_id, invoice.username, headers)
        ordered = {item["sku"]: item["quantity"] for item in body["items"]}
        if ordered != goods:
            return Result(
                invoice,
                Outcome.FAILED,
                order_id,
                status=response.status_code,
                detail=f"order {order_id} has other goods than the invoice",
            )
        return Result(invoice, Outcome.PLACED, order_id, duplicate=bool(body["duplicate"]))

    def _fill_cart(self, shop: Shop, invoice: Invoice, headers: Mapping[str, str]) -> str:
        """
        Fill a cart with what the invoice sells, each line posted once, and return its id.

        Raises:
            AnswerLostError: no cart could be filled without losing an answer.
        """
        for attempt in range(1, MOST_CARTS + 1):
            cart = expect(shop.call("POST", "/api/carts/", headers=headers, json={}), 201)
            cart_id = str(read_object(cart, "id")["id"])
            try:
                for line in invoice.sales:
                    item = {"product_id": self.product_ids[line.sku], "quantity": line.quantity}
                    # Quantities add up: a repeated request would buy the line twice.
                    answer = shop.call(
                        "POST", f"/api/carts/{cart_id}/items/", headers=headers, json=item, repeatable=False
                    )
                    expect(answer, 201)
                return cart_id
            except AnswerLostError:
                self.meter.carts_rebuilt.append(invoice.number)
                if attempt == MOST_CARTS:
                    raise
                if shop.stop.wait(min(FIRST_PAUSE * attempt, LONGEST_PAUSE)):
                    break
        raise GaveUpError("the replay was stopped while it filled a cart")

    def _check_out(self, shop: Shop, cart_id: str, keyed: Mapping[str, str]) -> httpx.Response:
        response = shop.call("POST", "/api/orders/", headers=keyed, json={"cart_id": cart_id}, busy_means_wait=True)
        self.meter.checkout_seconds.append(response.elapsed.total_seconds())  # Of the try that was answered.
        return response

    def _pay(self, shop: Shop, order_id: int, username: str, headers: Mapping[str, str]) -> None:
        """Pay for an order, in a shop that takes payments. Repeatable; 409: the order no longer waits."""
        expect(shop.call("POST", f"/api/orders/{order_id}/payment/", headers=headers, json={}), 202, 409)
        self.asked[order_id] = username

    def _pay_what_waits(self, shop: Shop, username: str, headers: Mapping[str, str]) -> None:
        """Pay for the orders of an earlier, interrupted replay of this run."""
        for order in shop.pages("/api/orders/", headers=headers):
            if order["status"] == "unpaid":
                self._pay(shop, order["id"], username, headers)

    def _was_placed(self, shop: Shop, keyed: Mapping[str, str]) -> bool:
        """
        Whether the key has been used, tested by a checkout of a cart that does not exist.

        A key that has placed an order refuses another cart (422); with a new key the cart is unknown (404).
        """
        nowhere = str(uuid.uuid5(uuid.NAMESPACE_URL, keyed["Idempotency-Key"]))
        response = shop.call("POST", "/api/orders/", headers=keyed, json={"cart_id": nowhere}, busy_means_wait=True)
        return expect(response, 404, 422).status_code == 422

    # --- A cancellation ---

    def _cancel(self, shop: Shop, invoice: Invoice) -> Result:
        returned = invoice.returned
        if not returned:
            return Result(invoice, Outcome.NO_GOODS)
        if not invoice.customer:
            return Result(invoice, Outcome.NO_CUSTOMER)
        purchases = self.purchases[invoice.username]
        purchase = find_purchase(purchases, returned)
        if isinstance(purchase, Outcome):
            return Result(invoice, purchase)
        order_id = purchase.order_id
        headers = self._headers(invoice.username, invoice.number)
        response = shop.call("POST", f"/api/orders/{order_id}/cancel/", headers=headers)
        if response.status_code == 409:
            # An answer was lost and the call repeated: the first one may have cancelled it.
            order = read_object(expect(shop.call("GET", f"/api/orders/{order_id}/", headers=headers), 200))
            if order.get("status") not in {"cancelled", "expired"}:  # Expired: it was not yet paid.
                raise UnexpectedAnswerError(response)
        else:
            expect(response, 200)
        purchase.order_id = None
        whole = returned == purchase.goods
        return Result(invoice, Outcome.CANCELLED_WHOLE if whole else Outcome.CANCELLED_PART, order_id)

    # --- What both need ---

    def _open_shop(self, *, patience: float) -> Shop:
        return Shop(self.url, patience=patience, timeout=self.timeout, stop=self.stop, meter=self.meter)

    def _headers(self, username: str, about: str) -> dict[str, str]:
        token = AccessToken.for_user(self.users[username])
        token.set_exp(lifetime=TOKEN_LIFETIME)
        return {"Authorization": f"Bearer {token}", "X-Request-ID": f"retail.{self.run}.{about}"}


def find_purchase(purchases: list[Purchase], returned: Mapping[str, int]) -> Purchase | Outcome:
    """Return the latest purchase with an open order that contains all returned items, or why there is none."""
    covering = [purchase for purchase in reversed(purchases) if purchase.covers(returned)]
    for purchase in covering:
        if purchase.order_id is not None and purchase.outcome is Outcome.PLACED:
            return purchase
    outcomes = {purchase.outcome for purchase in covering}
    if Outcome.PLACED_EARLIER in outcomes:
        return Outcome.ORDER_EARLIER
    if outcomes - {Outcome.PLACED}:
        return Outcome.ORDER_NOT_PLACED
    bought: Counter[str] = Counter()
    for purchase in purchases:
        bought.update(purchase.goods)
    if all(bought[sku] >= quantity for sku, quantity in returned.items()):
        return Outcome.IN_NO_ONE_ORDER
    return Outcome.BOUGHT_BEFORE


def _find_users(usernames: list[str]) -> dict[str, AbstractBaseUser]:
    manager = get_user_model()._default_manager
    found: dict[str, AbstractBaseUser] = {}
    for start in range(0, len(usernames), 500):
        for user in manager.filter(username__in=usernames[start : start + 500], is_active=True):
            found[user.get_username()] = user
    return found
