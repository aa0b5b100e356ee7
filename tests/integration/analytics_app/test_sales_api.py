"""``GET /api/analytics/sales/``, for staff and for others."""

from datetime import UTC, datetime

import pytest
from django.urls import include, path
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from analytics_app import tasks
from store.models import Order
from tests.shop import make_customer, make_order, make_product, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

urlpatterns = [path("api/analytics/", include("analytics_app.urls"))]

SALES = "/api/analytics/sales/"


@pytest.fixture
def staff():
    client = APIClient()
    client.force_authenticate(make_user(is_staff=True))
    return client


@pytest.fixture
def week():
    """Three orders that stand, of two countries and products on two days, and one that is cancelled."""
    pot = make_product(sku="POT", title="Pot", price="10.00", currency="GBP")
    cup = make_product(sku="CUP", title="Cup", price="0.35", currency="GBP")
    orders = [
        make_order(
            lines=lines,
            customer=make_customer(country=country),
            currency="GBP",
            placed_at=datetime(2026, 3, day, tzinfo=UTC),
        )
        for day, country, lines in [
            (1, "France", [(pot, 1), (cup, 1)]),
            (1, "Spain", [(cup, 2)]),
            (3, "France", [(pot, 2)]),
            (3, "Spain", [(pot, 9)]),
        ]
    ]
    Order.objects.filter(pk=orders[3].pk).update(status="cancelled")
    tasks.record_sale([order.pk for order in orders])
    return {"pot": pot, "cup": cup}


def test_it_is_for_staff(staff):
    assert APIClient().get(SALES).status_code == 401
    customer = APIClient()
    customer.force_authenticate(make_user())
    assert customer.get(SALES, {"group": "nonsense"}).status_code == 403
    answer = staff.get(SALES)
    assert answer.status_code == 200
    assert answer.json() == {"count": 0, "next": None, "previous": None, "results": []}


def test_by_day(staff, week):
    assert staff.get(SALES).json()["results"] == [
        {"day": "2026-03-01", "orders": 2, "units": 4, "revenue": "11.05", "currency": "GBP"},
        {"day": "2026-03-03", "orders": 1, "units": 2, "revenue": "20.00", "currency": "GBP"},
    ]


def test_by_product(staff, week):
    assert staff.get(SALES, {"group": "product"}).json()["results"] == [
        {
            "product": week["pot"].pk,
            "sku": "POT",
            "title": "Pot",
            "orders": 2,
            "units": 3,
            "revenue": "30.00",
            "currency": "GBP",
        },
        {
            "product": week["cup"].pk,
            "sku": "CUP",
            "title": "Cup",
            "orders": 2,
            "units": 3,
            "revenue": "1.05",
            "currency": "GBP",
        },
    ]


def test_by_country(staff, week):
    assert staff.get(SALES, {"group": "country"}).json()["results"] == [
        {"country": "France", "orders": 2, "units": 4, "revenue": "30.35", "currency": "GBP"},
        {"country": "Spain", "orders": 1, "units": 2, "revenue": "0.70", "currency": "GBP"},
    ]


@pytest.mark.parametrize(
    ("asked", "units"),
    [
        ({"from": "2026-03-01", "to": "2026-03-01"}, 4),
        ({"from": "2026-03-02"}, 2),
        ({"to": "2026-03-02"}, 4),
        ({"from": "2026-03-01", "to": "2026-03-03"}, 6),
        ({"from": "2027-01-01"}, 0),
    ],
)
@pytest.mark.parametrize("group", ["day", "product", "country"])
def test_both_ends_of_the_span_are_included(staff, week, asked, units, group):
    rows = staff.get(SALES, {**asked, "group": group}).json()["results"]
    assert sum(row["units"] for row in rows) == units


def test_it_comes_in_pages(staff, week):
    first = staff.get(SALES, {"page_size": 1}).json()
    assert (first["count"], len(first["results"]), first["previous"]) == (2, 1, None)
    second = staff.get(first["next"]).json()
    assert second["results"][0]["day"] == "2026-03-03"
    assert staff.get(SALES, {"page": 99}).status_code == 404


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"group": "customer"}, "group"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(staff, asked, field):
    answer = staff.get(SALES, asked)
    assert answer.status_code == 400
    assert field in answer.content.decode()


def test_it_is_read_only(staff):
    assert staff.post(SALES, {}).status_code == 405


def test_the_queries_do_not_grow_with_the_rows(staff, week, django_assert_num_queries):
    for group in ("day", "product", "country"):
        with django_assert_num_queries(2):
            staff.get(SALES, {"group": group})


def test_the_schema_says_so():
    schema = SchemaGenerator(patterns=urlpatterns).get_schema(request=None, public=True)
    get = schema["paths"][SALES]["get"]
    assert {"from", "to", "group", "page", "page_size"} == {parameter["name"] for parameter in get["parameters"]}
    groups = next(parameter for parameter in get["parameters"] if parameter["name"] == "group")
    assert set(groups["schema"]["enum"]) == {"day", "product", "country"}
    page = schema["components"]["schemas"]["PaginatedSalesList"]
    assert set(page["properties"]) == {"count", "next", "previous", "results"}
    rows = schema["components"]["schemas"]["Sales"]["oneOf"]
    assert len(rows) == 3
