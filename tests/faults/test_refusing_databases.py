"""Databases that refuse writes or end sessions: reported correctly everywhere, and replaced by a new connection."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from django.db import connection
from rest_framework_simplejwt.tokens import AccessToken

from celery_ledger.desk import doctor
from celery_ledger.watch import replication
from store.models import Order
from tests.faults.buyers import Buyers
from tests.processes import wait_until
from tests.shop import make_cart, make_customer, make_product
from web import health

pytestmark = [pytest.mark.processes, pytest.mark.postgresql]

PASSWORD = "a-long-enough-passphrase"
NOTHING_DONE = "The shop cannot reach its database. Nothing was done; try again."

#: How a server begins to take no writes, and how it takes them again. What the database says holds for new
#: sessions alone: the old ones are like those that still lead to a server that was demoted.
WAYS = {
    "the server": (
        ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"],
        ["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"],
    ),
    "the sessions": (
        ["ALTER DATABASE shop SET default_transaction_read_only = on", "SELECT pg_terminate_backend(pid)"],
        ["ALTER DATABASE shop RESET default_transaction_read_only"],
    ),
}


def tell(server, statements):
    with psycopg.connect(server.url("postgres"), autocommit=True) as link:
        link.execute("SET default_transaction_read_only = off")
        for statement in statements:
            if statement.endswith("(pid)"):
                statement += " FROM pg_stat_activity WHERE datname = 'shop' AND pid <> pg_backend_pid()"
            link.execute(statement)
    connection.close()  # It may be one of those that were ended.


def sign_in(url):
    with httpx.Client(base_url=url) as browser:
        browser.get("/api/session/")
        token = {"X-CSRFToken": browser.cookies["csrftoken"]}
        return browser.post("/api/session/", json={"username": "buyer", "password": PASSWORD}, headers=token)


def sign_in_to_admin(url):
    with httpx.Client(base_url=url) as browser:
        browser.get("/admin/login/")
        form = {"username": "buyer", "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        return browser.post("/admin/login/", data=form)


@pytest.mark.fault("F108")
@pytest.mark.parametrize("way", WAYS)
def test_f108_a_database_that_turns_read_only_is_a_503_and_not_ready_and_heals(own_postgresql, machine, way):
    web = machine.start_web(WEB_THREADS="4")
    url = machine.web_url
    buyer, product = make_customer(username="buyer", is_staff=True), make_product(stock=1000)
    buyer.user.set_password(PASSWORD)
    buyer.user.save()
    signed_in = {"Authorization": f"Bearer {AccessToken.for_user(buyer.user)}"}
    carts = [str(make_cart({product: 1}, buyer).pk) for _ in range(17)]

    def check_out(cart):
        return httpx.post(f"{url}/api/orders/", json={"cart_id": cart}, headers=signed_in, timeout=30)

    def readiness():
        return httpx.get(f"{url}/health/ready/", timeout=30)

    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(check_out, carts[:8])} == {201}
        assert readiness().status_code == 200
        begin, end = WAYS[way]
        tell(own_postgresql, begin)
        wait_until("it is not ready", lambda: readiness().status_code == 503, seconds=20)
        assert readiness().json()["parts"]["database"] == "read-only"
        refused = [
            check_out(carts[8]),
            httpx.post(f"{url}/api/carts/", json={}),
            httpx.post(f"{url}/api/carts/{carts[8]}/items/", json={"product_id": product.pk, "quantity": 1}),
            sign_in(url),
            sign_in_to_admin(url),
        ]
        assert [answer.status_code for answer in refused] == [503] * 5
        for answer in refused[:2]:
            assert answer.headers["Retry-After"]
            assert answer.json()["detail"] == NOTHING_DONE
        assert httpx.get(f"{url}/api/products/").status_code == 200
        assert httpx.get(f"{url}/health/live/").status_code == 200

        tell(own_postgresql, end)
        wait_until("it is ready", lambda: readiness().status_code == 200, seconds=20)
        answers = [answer.status_code for answer in pool.map(check_out, carts[8:])]

    assert answers == [201] * 9
    assert Order.objects.count() == 17
    assert web.is_alive


@pytest.mark.fault("F108")
def test_f108_sessions_that_the_server_ended_cost_no_request_an_error(own_postgresql, machine):
    machine.start_web(WEB_THREADS="4")
    url = f"{machine.web_url}/api/carts/"

    def statuses():
        return sorted({answer.status_code for answer in pool.map(lambda _: httpx.post(url, json={}), range(24))})

    with ThreadPoolExecutor(8) as pool:
        assert statuses() == [201]
        for _ in range(3):
            tell(own_postgresql, ["SELECT pg_terminate_backend(pid)"])
            wait_until("all sessions are gone", lambda: not sessions(own_postgresql))
            assert statuses() == [201]


def sessions(server):
    with psycopg.connect(server.url("postgres")) as link:
        return link.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'").fetchone()[0]


@pytest.mark.fault("F108")
def test_f108_whoever_may_have_been_served_is_not_told_that_nothing_was_done(machine, database_proxy):
    machine.start_web(DATABASE_URL=database_proxy.url)
    buyers = Buyers(1)
    [checkout] = buyers.checkouts
    headers = {"Authorization": f"Bearer {checkout.token}", "Idempotency-Key": checkout.key}

    def ask():
        body = {"cart_id": str(checkout.cart_id)}
        return httpx.post(f"{machine.web_url}/api/orders/", json=body, headers=headers, timeout=30)

    database_proxy.drop_answer_to(b"COMMIT")
    answer = ask()

    assert database_proxy.dropped == 1
    assert answer.status_code == 503
    assert "Nothing was done" not in answer.json()["detail"]
    assert "the same Idempotency-Key" in answer.json()["detail"]
    assert ask().headers["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.fault("F161")
def test_f161_a_primary_that_waits_for_its_standby_is_named(own_postgresql):
    tell(own_postgresql, ["ALTER SYSTEM SET synchronous_standby_names = 'away'", "SELECT pg_reload_conf()"])
    wait_until("the server knows", lambda: replication.missing_standby() != "")
    assert health.state_of_database() == "waits for a synchronous standby"
    found = {finding.what: finding for finding in doctor.database()}
    assert "(away)" in found["replication"].how
    assert not found["replication"].is_well
    tell(own_postgresql, ["ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"])
    wait_until("the server knows", lambda: replication.missing_standby() == "")
    assert health.state_of_database() == "ok"
    assert "replication" not in {finding.what for finding in doctor.database()}
