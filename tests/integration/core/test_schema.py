"""The OpenAPI document matches the contract."""

import json
import re
import warnings
from decimal import Decimal

import jsonschema
import pytest
from django.core.management import call_command
from django.urls import get_resolver

from core import examples
from phones.views import NoGoodCode, NothingToVerify
from store.models import Order
from store.refusals import KeyInUse, KeyReused
from tests.shop import api, check_out, make_cart, make_customer, make_product
from web.problems import answer_problem
from webhooks import receivers
from webhooks.models import TEST, Event, Version, WebhookDelivery, WebhookEndpoint
from webhooks.recording import record_test

pytestmark = pytest.mark.django_db

#: Calls of the contract that this part of the project answers.
CALLS = {
    ("post", "/api/users/"),
    ("post", "/api/token/"),
    ("post", "/api/token/refresh/"),
    ("get", "/api/session/"),
    ("post", "/api/session/"),
    ("delete", "/api/session/"),
    ("get", "/api/customers/me/"),
    ("patch", "/api/customers/me/"),
    ("get", "/api/products/"),
    ("get", "/api/products/{id}/"),
    ("get", "/api/collections/"),
    ("post", "/api/carts/"),
    ("get", "/api/carts/{cart_id}/"),
    ("delete", "/api/carts/{cart_id}/"),
    ("post", "/api/carts/{cart_id}/items/"),
    ("patch", "/api/carts/{cart_id}/items/{item_id}/"),
    ("delete", "/api/carts/{cart_id}/items/{item_id}/"),
    ("post", "/api/orders/"),
    ("get", "/api/orders/"),
    ("get", "/api/orders/{id}/"),
    ("post", "/api/orders/{id}/cancel/"),
    ("get", "/api/orders/{id}/tasks/"),
    ("get", "/api/notifications/"),
    ("post", "/api/notifications/{id}/read/"),
    ("post", "/api/notifications/read-all/"),
    ("get", "/api/notifications/preferences/"),
    ("put", "/api/notifications/preferences/"),
    ("get", "/api/notifications/sse/"),
    ("get", "/api/push/public-key/"),
    ("post", "/api/save-sub/"),
    ("delete", "/api/save-sub/"),
    ("get", "/api/messages/"),
    ("post", "/api/messages/"),
    ("post", "/api/messages/{id}/read/"),
    ("get", "/api/ops/queues/"),
    ("post", "/api/ops/queues/{queue}/pause/"),
    ("post", "/api/ops/queues/{queue}/resume/"),
    ("get", "/api/ops/dead/"),
    ("post", "/api/ops/dead/{task_id}/replay/"),
    ("post", "/api/ops/dead/{task_id}/discard/"),
}


@pytest.fixture
def document():
    return api().get("/api/schema/", headers={"Accept": "application/json"}).json()


def test_the_document_is_valid_and_nothing_in_it_was_guessed(tmp_path):
    with warnings.catch_warnings():
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "openapi.yaml"))


def test_every_call_of_the_contract_is_described(document):
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}

    assert described >= CALLS
    assert document["openapi"].startswith("3.")
    assert document["info"]["title"] == "Shopwire"


def test_every_call_answers_its_errors_as_problem_documents(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation["responses"]["default"]["content"]
            assert list(content) == ["application/problem+json"], (method, path)
            assert operation["summary"], (method, path)


def bodies(document):
    """Every body that a call takes or answers, with the call."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for where, part in parts.items():
                for kind, media in part.get("content", {}).items():
                    yield f"{method} {path} {where}", kind, media


def test_every_body_has_an_example_that_is_as_its_schema_says(document):
    shown = []
    for where, kind, media in bodies(document):
        if where.endswith(" default") or "json" not in kind:
            continue
        examples = (
            [media["example"]] if "example" in media else [e["value"] for e in media.get("examples", {}).values()]
        )
        assert examples, f"{where}: add an example to core/examples.py"
        schema = json.loads(json.dumps(media["schema"] | {"components": document["components"]}))
        for example in examples:
            jsonschema.validate(example, schema)
            shown.append(kind)
    assert shown.count("application/json") > 30
    assert shown.count("application/problem+json") > 40


@pytest.mark.parametrize("version", Version)
def test_every_message_that_a_webhook_is_sent_is_as_the_document_says(document, version):
    endpoint = WebhookEndpoint.objects.create(url="https://hooks.example/", events=Event.values, version=version)
    product = make_product()
    order = Order.objects.get(pk=check_out(api(make_customer()), make_cart({product: 1})).json()["id"])
    receivers.send_order_cancelled(None, order=order)
    receivers.send_orders_settled(None, orders=[order.pk])
    receivers.send_stock_low(None, product=product)
    receivers.send_price_changed(None, product=product, old=Decimal("1.00"), new=Decimal("2.00"))
    record_test(endpoint)
    sent = {delivery.event: json.loads(delivery.body) for delivery in WebhookDelivery.objects.all()}
    assert set(sent) == set(document["webhooks"]) == {*Event.values, TEST}
    for event, path in document["webhooks"].items():
        schema = path["post"]["requestBody"]["content"]["application/json"]["schema"]
        schema = json.loads(json.dumps({**schema, "components": document["components"]}))
        jsonschema.validate(sent[event], schema)
        message = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        assert set(sent[event]) == set(message["properties"]) - ({"version"} if version == Version.FIRST else set())


def test_null_is_said_in_the_words_of_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    assert "nullable" not in json.dumps(document)


def test_answers_have_no_field_that_the_example_hides(document):
    compared = 0
    for where, _, media in bodies(document):
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        component = document["components"]["schemas"].get(name, {})
        if "example" in media and " 2" in where and "properties" in component:
            told, known = set(media["example"]), set(component["properties"])
            assert told <= known, where
            assert not (known - told) & set(component.get("required", [])), where
            compared += 1
    assert compared > 20


def test_the_checkouts_own_refusals_are_described(document):
    answers = document["paths"]["/api/orders/"]["post"]["responses"]

    assert set(answers["409"]["content"]["application/problem+json"]["examples"]) == {
        "out-of-stock",
        "idempotency-key-in-use",
    }
    assert "422" in answers
    assert "409" in document["paths"]["/api/orders/{id}/cancel/"]["post"]["responses"]


def test_the_problems_that_are_shown_are_the_problems_that_are_answered():
    buyer = make_customer()
    cart = make_cart({make_product(stock=1): 2}, buyer)
    refused = check_out(api(buyer), cart).json()
    shown = examples.OUT_OF_STOCK
    assert {key: value for key, value in refused.items() if key != "errors"} == {
        key: value for key, value in shown.items() if key != "errors"
    }
    assert refused["errors"][0].keys() == shown["errors"][0].keys()
    for refusal, document in (
        (KeyInUse, examples.KEY_IN_USE),
        (KeyReused, examples.KEY_REUSED),
        (NothingToVerify, examples.NOTHING_TO_VERIFY),
        (NoGoodCode, examples.NO_CODE),
    ):
        assert answer_problem(refusal(), {}).data == document


def test_no_text_of_a_query_has_a_nul(document):
    texts = [
        parameter["schema"]
        for methods in document["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query" and parameter["schema"].get("type") == "string"
    ]
    free = [schema for schema in texts if not schema.keys() & {"format", "enum"}]
    assert len(free) > 5
    assert all(not re.search(schema["pattern"], "a\0b") for schema in free)


def test_the_checkout_names_its_idempotency_key(document):
    checkout = document["paths"]["/api/orders/"]["post"]

    assert "Idempotency-Key" in {parameter["name"] for parameter in checkout["parameters"]}
    assert {"200", "201"} <= set(checkout["responses"])
    assert "Idempotent-Replayed" in checkout["responses"]["201"]["headers"]


def test_quantities_have_their_bounds(document):
    quantity = document["components"]["schemas"]["AddItemRequest"]["properties"]["quantity"]

    assert (quantity["type"], quantity["minimum"], quantity["maximum"]) == ("integer", 1, 10_000)


def test_the_page_of_the_document_needs_no_other_site():
    page = api().get("/api/docs/")

    assert page.status_code == 200
    assert b"swagger-ui" in page.content
    assert b"https://" not in page.content


def test_every_address_under_api_answers_a_stranger_without_a_crash(document):
    assert get_resolver().reverse_dict is not None
    for path, methods in document["paths"].items():
        address = path.replace("{cart_id}", "00000000-0000-4000-8000-000000000000").replace("{id}", "1")
        for method in methods:
            response = getattr(api(), method)(address.replace("{item_id}", "1"), format="json")
            assert response.status_code < 500, (method, path)
