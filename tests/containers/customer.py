"""A customer who orders over HTTP from a shop in containers, with the sample accounts and goods."""

import time
import uuid

import httpx


class Customer:
    """Places orders of one piece, and insists on an answer; ``unanswered`` counts the calls in vain."""

    def __init__(self, url: str, *, patience: float = 120) -> None:
        self.url = url
        self.patience = patience
        self.unanswered = 0
        account = {"username": "demo", "password": "shopwire-demo"}
        self.token = self.call("post", "/api/token/", account)["access"]
        self.product = self.call("get", "/api/products/?in_stock=true")["results"][0]["id"]

    def order(self) -> int:
        """Place an order and return its number."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        cart = self.call("post", "/api/carts/", {})["id"]
        self.call("post", f"/api/carts/{cart}/items/", {"product_id": self.product, "quantity": 1})
        return self.call("post", "/api/orders/", {"cart_id": cart}, **self._signed_in(), **key)["id"]

    def count_orders(self) -> int:
        return self.call("get", "/api/orders/", **self._signed_in())["count"]

    def call(self, method: str, path: str, body: dict | None = None, **headers: str) -> dict:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=15, trust_env=False)
                answer.raise_for_status()
            except httpx.HTTPError:
                self.unanswered += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)  # Between two tries of a client's; nothing is proven by it.
            else:
                return answer.json()

    def _signed_in(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}
