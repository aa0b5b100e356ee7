"""What a checkout costs on the wire: how often the web process waits for its database."""

import httpx
import pytest

from celery_ledger.models import DurableTask
from tests.faults.buyers import Buyers

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]

#: Round trips of a checkout before its receivers were guarded (d7c4608), without an Idempotency-Key and with one.
WITHOUT_KEY, WITH_KEY = 10, 12


def test_a_checkout_waits_for_the_database_no_more_often_than_before_its_receivers_were_guarded(
    machine, database_proxy
):
    """
    The savepoint around the calls of receivers travels with them: d7c4608, which had none, needs as many round trips.

    The best of ten counts, for the first ones of a connection prepare their statements.
    """
    machine.start_web(DATABASE_URL=database_proxy.url, WEB_THREADS="1")
    buyers = Buyers(30)
    without_key, with_key = [], []
    with httpx.Client(base_url=machine.web_url, timeout=30, trust_env=False) as client:
        for number, checkout in enumerate(buyers.checkouts):
            headers = {"Authorization": f"Bearer {checkout.token}"}
            if number % 2:
                headers["Idempotency-Key"] = checkout.key
            before = database_proxy.turns
            answer = client.post("/api/orders/", json={"cart_id": str(checkout.cart_id)}, headers=headers)
            (with_key if number % 2 else without_key).append(database_proxy.turns - before)
            assert answer.status_code == 201
            story = DurableTask.objects.filter(subject=f"store.order:{answer.json()['id']}")
            assert story.count() == 5
    print(f"Round trips of a checkout: {without_key} without a key, {with_key} with one")
    assert 0 < min(without_key[-10:]) <= WITHOUT_KEY
    assert 0 < min(with_key[-10:]) <= WITH_KEY
