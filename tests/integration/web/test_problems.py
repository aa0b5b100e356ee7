"""One kind of error for everything under ``/api/``, and never a 500 for what a client sends."""

import json

import pytest
from django.db import InterfaceError, OperationalError
from django.test import override_settings
from django.urls import path

from core import urls
from store.models import Product
from tests.shop import api, make_cart, make_customer, make_product
from web.problems import CONTENT_TYPE

pytestmark = pytest.mark.django_db


def crash(request):
    raise RuntimeError("secret detail of the inside")


def lose_the_database(request):
    raise OperationalError("server closed the connection")


class Addresses:
    """The project's own, and some whose views are outside REST framework and broken."""

    urlpatterns = [
        path("api/crash/", crash),
        path("api/lost/", lose_the_database),
        path("other/crash/", crash),
        *urls.urlpatterns,
    ]


def assert_problem(response, status):
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == CONTENT_TYPE
    problem = json.loads(response.content)
    assert problem["status"] == status
    assert problem["type"]
    assert problem["title"]
    assert problem["detail"]
    assert response.headers["X-Request-ID"]
    return problem


@pytest.fixture(params=[False, True], ids=["DEBUG=0", "DEBUG=1"])
def debug(request, settings):
    settings.DEBUG = request.param


@pytest.mark.usefixtures("debug")
class TestEverywhere:
    def test_no_such_address(self):
        assert_problem(api().get("/api/nothing/"), 404)

    def test_no_such_object(self):
        assert_problem(api().get("/api/products/1/"), 404)

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_an_address_without_its_slash_is_not_written_to(self, method):
        assert_problem(getattr(api(), method)("/api/carts", {}, format="json"), 404)

    def test_an_address_without_its_slash_is_read_with_it(self):
        assert api().get("/api/products").headers["Location"] == "/api/products/"

    def test_a_method_that_is_not_there(self):
        response = api(make_customer()).put("/api/orders/", {}, format="json")
        assert_problem(response, 405)
        assert "POST" in response.headers["Allow"]

    def test_nobody_signed_in(self):
        response = api().get("/api/orders/")
        assert_problem(response, 401)
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="api"'

    def test_a_host_that_is_not_ours(self):
        assert_problem(api().get("/api/products/", headers={"Host": "evil.example"}), 400)

    @override_settings(ROOT_URLCONF=Addresses)
    def test_a_crash_tells_nothing_of_the_inside(self):
        response = api().get("/api/crash/")
        assert_problem(response, 500)
        assert b"secret" not in response.content

    @override_settings(ROOT_URLCONF=Addresses)
    def test_a_lost_database_outside_rest_framework(self):
        response = api().get("/api/lost/")
        assert_problem(response, 503)
        assert int(response.headers["Retry-After"]) >= 1

    @override_settings(ROOT_URLCONF=Addresses)
    def test_other_addresses_keep_their_own_errors(self):
        assert api().get("/other/crash/").headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("error", [OperationalError("pool timeout"), InterfaceError("connection already closed")])
def test_a_lost_database_is_a_503_that_says_when_to_try_again(monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("store.views.ProductViewSet.get_queryset", fail)
    response = api().get("/api/products/")

    assert_problem(response, 503)
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "",
        "nonsense",
        "application/json2",
    ],
)
def test_a_body_that_is_not_json_by_name_is_a_415(content_type):
    response = api().generic("POST", "/api/carts/", b"quantity=1", content_type=content_type)

    assert_problem(response, 415)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_a_body_that_is_json_by_name_is_read(content_type):
    assert api().generic("POST", "/api/carts/", b"{}", content_type=content_type).status_code == 201


#: Each is given where a cart line is added, and where the body should be empty.
BAD_BODIES = {
    "cut short": b'{"product_id": 1, "quantity": ',
    "not JSON": b"quantity=1",
    "single quotes": b"{'quantity': 1}",
    "two values": b"{} {}",
    "not UTF-8": b'{"product_id": "\xff"}',
    "UTF-16": '{"quantity": 1}'.encode("utf-16"),
    "NaN": b'{"product_id": 1, "quantity": NaN}',
    "Infinity": b'{"product_id": 1, "quantity": Infinity}',
    "-Infinity": b'{"product_id": 1, "quantity": -Infinity}',
    "1e400": b'{"product_id": 1, "quantity": 1e400}',
    "5,000 digits": b'{"product_id": 1, "quantity": ' + b"9" * 5000 + b"}",
    "NUL in a value": b'{"product_id": "\\u0000", "quantity": 1}',
    "NUL in a name": b'{"a\\u0000": 1}',
    "raw NUL": b'{"product_id": "\x00", "quantity": 1}',
    "half a surrogate pair": b'{"product_id": "\\ud800", "quantity": 1}',
    "the other half, in a name": b'{"\\udfff": 1}',
    "33 deep": b"[" * 33 + b"]" * 33,
    "5,000 deep": b"[" * 5000 + b"]" * 5000,
    "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects 5,000 deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a list": b"[]",
    "a list of lines": b'[{"product_id": 1, "quantity": 1}]',
    "a string": b'"x"',
    "a number": b"5",
    "null": b"null",
    "true": b"true",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_cannot_be_read_is_a_400(body):
    cart = make_cart({})
    buyer = api(make_customer())

    for client, address in [
        (api(), f"/api/carts/{cart.id}/items/"),
        (api(), "/api/carts/"),
        (buyer, "/api/orders/"),
        (api(), "/api/users/"),
        (api(), "/api/token/"),
        (api(), "/api/token/refresh/"),
    ]:
        response = client.generic("POST", address, body, content_type="application/json")
        assert_problem(response, 400)
    assert_problem(buyer.generic("PATCH", "/api/customers/me/", body, content_type="application/json"), 400)


def test_a_body_that_is_too_long_is_a_413(settings):
    body = b'{"x": "' + b"a" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE + b'"}'

    assert_problem(api().generic("POST", "/api/carts/", body, content_type="application/json"), 413)


@pytest.mark.fault("F65")
def test_text_of_all_the_world_is_read():
    customer = make_customer()
    name = "\U0001f600 שלום مرحبا 😀"

    answer = api(customer).patch("/api/customers/me/", {"first_name": name}, format="json")

    assert (answer.status_code, answer.json()["first_name"]) == (200, name)


@pytest.mark.parametrize(
    "query", ["search=%00", "search=a%00b", "%00=1", "ordering=%00", "collection=%00", "page=%00", "min_price=%00"]
)
def test_a_nul_in_the_query_is_a_400(query):
    assert_problem(api().get(f"/api/products/?{query}"), 400)


@pytest.mark.parametrize(
    "query", ["search=%FF", "search=%ED%A0%80", "search=%F0%9F%98%80", "a=1&" * 900, "&&&===", "[]"]
)
def test_an_odd_query_is_answered(query):
    make_product()
    assert api().get(f"/api/products/?{query}").status_code in {200, 400}


def test_a_query_of_too_many_fields_is_a_400():
    assert_problem(api().get("/api/products/?" + "a=1&" * 2000), 400)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "application/problem+json", "x", "", "*/*;q=x"])
def test_an_answer_is_json_whatever_is_asked_for(accept):
    response = api().get("/api/products/", headers={"Accept": accept})

    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")


def test_field_errors_point_into_the_body():
    problem = assert_problem(api().post("/api/users/", {"username": "a b"}, format="json"), 400)

    assert {error["pointer"] for error in problem["errors"]} == {"/username", "/email", "/password"}
    assert all(error["detail"] for error in problem["errors"])


def test_a_request_keeps_its_own_well_formed_id():
    assert api().get("/api/nothing/", headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    assert api().get("/api/nothing/", headers={"X-Request-ID": "a b\t"}).headers["X-Request-ID"] != "a b\t"


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://shop.example", "https://shop.example"), ("https://evil.example", None)]
)
def test_errors_too_say_which_origin_may_read_them(settings, origin, allowed):
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]

    response = api().get("/api/nothing/", headers={"Origin": origin})

    assert response.headers.get("Access-Control-Allow-Origin") == allowed


def test_a_product_that_is_deleted_is_no_crash():
    product = make_product()
    cart = make_cart({product: 1})
    Product.objects.all().delete()

    assert api().get(f"/api/carts/{cart.id}/").json()["items"] == []
