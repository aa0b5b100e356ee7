"""
Customers who place orders over HTTP during faults, and record the responses.

Their record is kept here, outside the shop: the database is checked against it.
"""

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
from rest_framework_simplejwt.tokens import AccessToken

from store.models import Cart, CartItem
from tests.shop import make_customer, make_product

#: Status of a try that had no answer.
NO_ANSWER = 0


@dataclass
class Checkout:
    """One cart, ordered under one key for as long as it takes; what was answered, and when."""

    key: str
    cart_id: uuid.UUID
    token: str
    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    order_id: int | None = None

    @property
    def is_answered(self) -> bool:
        return self.order_id is not None or 409 in self.statuses[-1:]


class Buyers:
    """
    Customers with full carts, made before anything breaks.

    ``checkouts`` is their ledger. ``products`` are what they buy, the same few for all. They send idempotency keys,
    unless they are not ``keyed``.
    """

    def __init__(
        self, count: int, *, seed: int = 0, customers: int = 10, stock: int = 100_000, keyed: bool = True
    ) -> None:
        self.keyed = keyed
        chance = random.Random(seed)
        self.products = [make_product(stock=stock, price=f"{chance.randint(1, 99)}.95") for _ in range(8)]
        self.stock = stock
        users = [make_customer().user for _ in range(customers)]
        tokens = []
        for user in users:
            token = AccessToken.for_user(user)
            token.set_exp(lifetime=timedelta(hours=4))
            tokens.append(str(token))
        turn = itertools.cycle(range(customers))
        places = [next(turn) for _ in range(count)]
        carts = Cart.objects.bulk_create(Cart(customer=users[place].customer) for place in places)
        lines = []
        for cart in carts:
            for product in chance.sample(self.products, chance.randint(1, 4)):
                lines.append(CartItem(cart=cart, product=product, quantity=chance.randint(1, 5)))
        CartItem.objects.bulk_create(lines, batch_size=500)
        self.checkouts = [
            Checkout(f"key-{number}", cart.pk, tokens[place])
            for number, (cart, place) in enumerate(zip(carts, places, strict=True))
        ]
        self._next = iter(self.checkouts)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    # --- Buying ---

    def begin(self, url: str, *, at_once: int = 2, pause: float = 0.0, patience: float = 120.0) -> None:
        """Begin to buy in ``at_once`` threads, with ``pause`` seconds after each order."""
        for _ in range(at_once):
            thread = threading.Thread(target=self._buy, args=(url, pause, patience), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let every checkout that was begun come to its end, and begin no more."""
        self._stopping.set()
        self.join()

    def join(self, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a buyer is still waiting"

    def place(self, url: str, count: int = 1, **options: float) -> None:
        """Place ``count`` orders, one after the other, here and now."""
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            for checkout in itertools.islice(self._next, count):
                self._check_out(client, checkout, patience=options.get("patience", 120.0))

    def _buy(self, url: str, pause: float, patience: float) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not self._stopping.is_set():
                with self._lock:
                    checkout = next(self._next, None)
                if checkout is None:
                    return
                self._check_out(client, checkout, patience=patience)
                self._stopping.wait(pause)

    def _check_out(self, client: httpx.Client, checkout: Checkout, *, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                answer = client.post(
                    "/api/orders/",
                    json={"cart_id": str(checkout.cart_id)},
                    headers={"Authorization": f"Bearer {checkout.token}"}
                    | ({"Idempotency-Key": checkout.key} if self.keyed else {}),
                )
            except httpx.TransportError:
                checkout.statuses.append(NO_ANSWER)
                time.sleep(0.1)
                continue
            checkout.statuses.append(answer.status_code)
            checkout.seconds.append(time.monotonic() - began)
            if answer.status_code in {200, 201}:
                checkout.order_id = answer.json()["id"]
                return
            if answer.status_code == 503 and "Retry-After" not in answer.headers:
                checkout.faults.append("503 without Retry-After")
            if answer.status_code not in {409, 503}:
                checkout.faults.append(f"{answer.status_code}: {answer.text[:300]}")
                return
            time.sleep(0.2)

    # --- The ledger ---

    @property
    def begun(self) -> list[Checkout]:
        return [checkout for checkout in self.checkouts if checkout.statuses]

    @property
    def told(self) -> dict[str, int]:
        """By key, the orders that customers were told of."""
        return {checkout.key: checkout.order_id for checkout in self.checkouts if checkout.order_id is not None}

    def statuses(self) -> Counter[int]:
        return Counter(status for checkout in self.begun for status in checkout.statuses)

    def slowest(self, share: float = 0.99) -> float:
        """Return the seconds within which ``share`` of all answers came."""
        seconds = sorted(second for checkout in self.begun for second in checkout.seconds)
        return seconds[min(len(seconds) - 1, int(len(seconds) * share))]
