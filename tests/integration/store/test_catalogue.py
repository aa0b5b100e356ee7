"""The catalogue: products, filters and ordering."""

import pytest
from django.db import connection

from store.filters import ProductFilter
from store.models import Collection, Product, Stock
from tests.shop import api, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def products():
    tea, kitchen = Collection.objects.create(title="Tea"), Collection.objects.create(title="Kitchen")
    return {
        "green": make_product(sku="T1", title="Green tea", price="3.00", stock=5, collection=tea),
        "black": make_product(sku="T2", title="Black tea", price="2.00", stock=0, collection=tea),
        "mug": make_product(sku="K1", title="Green mug", price="7.50", stock=None, collection=kitchen),
        "spoon": make_product(sku="K2", title="Spoon", price="0.50", stock=9),
    }


def found(products, **query):
    response = api().get("/api/products/", query)
    assert response.status_code == 200, response.content
    names = {product.id: name for name, product in products.items()}
    return [names[row["id"]] for row in response.json()["results"]]


def test_a_product_is_what_the_contract_says(products):
    green = products["green"]
    Stock.objects.filter(product=green).update(reserved=2)

    shown = api().get(f"/api/products/{green.id}/").json()

    assert shown == {
        "id": green.id,
        "sku": "T1",
        "title": "Green tea",
        "slug": green.slug,
        "unit_price": "3.00",
        "currency": "GBP",
        "collection": green.collection_id,
        "available": 3,
    }
    assert shown in api().get("/api/products/").json()["results"]


def test_a_product_without_stock_is_not_available(products):
    assert api().get(f"/api/products/{products['mug'].id}/").json()["available"] == 0


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["green", "black", "mug", "spoon"]),
        ({"search": "green"}, ["green", "mug"]),
        ({"search": "tea GREEN"}, ["green"]),
        ({"search": "k2"}, ["spoon"]),
        ({"search": "100%"}, []),
        ({"search": ""}, ["green", "black", "mug", "spoon"]),
        ({"min_price": "2.00"}, ["green", "black", "mug"]),
        ({"max_price": "2.00"}, ["black", "spoon"]),
        ({"min_price": "2", "max_price": "3"}, ["green", "black"]),
        ({"in_stock": "true"}, ["green", "spoon"]),
        ({"in_stock": "1"}, ["green", "spoon"]),
        ({"in_stock": "false"}, ["black", "mug"]),
        ({"ordering": "unit_price"}, ["spoon", "black", "green", "mug"]),
        ({"ordering": "-unit_price"}, ["mug", "green", "black", "spoon"]),
        ({"ordering": "-available,title"}, ["spoon", "green", "black", "mug"]),
        ({"ordering": "-id"}, ["spoon", "mug", "black", "green"]),
        ({"collection": "999999"}, []),
        ({"search": "tea", "in_stock": "true", "ordering": "title"}, ["green"]),
    ],
)
def test_the_catalogue_is_narrowed_and_ordered(products, query, names):
    assert found(products, **query) == names


def test_the_catalogue_is_narrowed_to_a_collection(products):
    assert found(products, collection=products["green"].collection_id) == ["green", "black"]


@pytest.mark.parametrize(
    "query",
    [
        {"min_price": "x"},
        {"min_price": ""},
        {"in_stock": ""},
        {"min_price": "NaN"},
        {"min_price": "-1"},
        {"max_price": "Infinity"},
        {"max_price": "1e400"},
        {"max_price": "99999999999.99"},
        {"max_price": "1.001"},
        {"in_stock": "maybe"},
        {"ordering": "secret"},
        {"ordering": "collection__title"},
        {"ordering": ""},
        {"ordering": ","},
        {"ordering": "title,"},
        {"collection": "x"},
        {"collection": "1.5"},
        {"collection": str(2**63)},
        {"collection": "-1"},
        {"search": "x" * 201},
        {"search": " ".join("abcdefghijklm")},
    ],
)
def test_a_filter_that_makes_no_sense_is_a_400(query):
    response = api().get("/api/products/", query)

    assert response.status_code == 400
    assert {error["pointer"] for error in response.json()["errors"]} == {f"/{name}" for name in query}


def test_the_catalogue_comes_in_pages(products):
    first = api().get("/api/products/", {"page_size": 3, "ordering": "-unit_price"}).json()
    second = api().get(first["next"]).json()

    assert (first["count"], first["previous"], len(first["results"])) == (4, None, 3)
    assert (second["next"], [row["title"] for row in second["results"]]) == (None, ["Spoon"])
    assert second["previous"]


@pytest.mark.parametrize("page", ["0", "99", "x", "", "-1", "9" * 5000])
def test_a_page_that_is_not_there_is_a_404(products, page):
    assert api().get("/api/products/", {"page": page}).status_code == 404


@pytest.mark.parametrize("page_size", ["0", "00", "-1", "x", "", "1.5", "\u0661", "null"])
def test_a_page_size_that_is_none_is_a_400(page_size):
    response = api().get("/api/products/", {"page_size": page_size})

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/page_size"


@pytest.mark.parametrize("page_size", ["100", "101", "1000", "9" * 5000])
def test_no_page_is_larger_than_a_hundred(page_size):
    Product.objects.bulk_create(Product(sku=f"BULK{n}", title="Bulk", slug="bulk", unit_price=1) for n in range(101))

    assert len(api().get("/api/products/", {"page_size": page_size}).json()["results"]) == 100


def test_pages_of_equal_products_do_not_overlap():
    expected = sorted(make_product(price="1.00", title="Same").id for _ in range(10))

    seen = []
    for page in range(1, 6):
        rows = api().get("/api/products/", {"page_size": 2, "page": page, "ordering": "title"}).json()["results"]
        seen += [row["id"] for row in rows]

    assert seen == expected


def test_the_catalogue_costs_two_queries_however_long(products, django_assert_num_queries):
    for _ in range(10):
        make_product()
    with django_assert_num_queries(2):
        assert len(api().get("/api/products/").json()["results"]) == 14


@pytest.mark.parametrize("product_id", [999_999, 10**17, 10**30, "x", "-1"])
def test_an_unknown_product_is_a_404(product_id):
    assert api().get(f"/api/products/{product_id}/").status_code == 404


def test_collections_say_how_much_is_on_them(products, django_assert_num_queries):
    with django_assert_num_queries(2):
        page = api().get("/api/collections/").json()

    assert [(row["title"], row["products_count"]) for row in page["results"]] == [("Kitchen", 1), ("Tea", 2)]
    assert set(page["results"][0]) == {"id", "title", "products_count"}


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_catalogue_is_not_written_through_the_api(products, method):
    assert getattr(api(), method)(f"/api/products/{products['mug'].id}/").status_code in {401, 405}


@pytest.mark.fault("F107")
def test_f107_a_search_has_a_dozen_words_and_no_more(products):
    refused = api().get("/api/products/", {"search": "a " * 100})

    assert refused.status_code == 400
    assert refused.json()["errors"] == [{"pointer": "/search", "detail": "A search has at most 12 words."}]
    assert found(products, search=" green tea " * 6) == ["green"]


def test_what_is_ordered_by_a_thousand_times_is_ordered_by_once(products):
    asked = ProductFilter({"ordering": "-title,sku," * 1000 + "id"}, Product.objects.with_available())

    assert [product.title for product in asked.qs] == ["Spoon", "Green tea", "Green mug", "Black tea"]
    assert len(asked.qs.query.order_by) == 3


@pytest.mark.fault("F107")
@pytest.mark.postgresql
@pytest.mark.parametrize("words", ["lantern", "bulk00042", "lantern storm"])
def test_f107_a_search_reads_an_index_and_not_the_catalogue(words):
    titles = ("Enamel saucepan", "Bird feeder", "Ball of jute twine", "Clothbound notebook")
    Product.objects.bulk_create(
        Product(sku=f"BULK{n:05}", title=f"{titles[n % 4]} {n}", slug="bulk", unit_price=1) for n in range(5000)
    )
    make_product(title="Storm lantern")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE store_product")

    plan = ProductFilter({"search": words}, Product.objects.order_by("id")).qs.explain()

    assert "store_product_title_trigrams" in plan
    assert "store_product_sku_trigrams" in plan


@pytest.mark.fault("F111")
@pytest.mark.parametrize("address", ["/api/products/", "/api/products/{}/", "/api/collections/"])
def test_f111_what_was_read_is_kept_for_a_moment_and_asked_for_again_without_being_sent(address):
    tea = make_product(stock=5)
    first = api().get(address.format(tea.id))

    assert first.headers["Cache-Control"] == "public, max-age=10"
    again = api().get(address.format(tea.id), headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    Product.objects.update(title="Another tea")
    Collection.objects.create(title="Another shelf")
    changed = api().get(address.format(tea.id), headers={"If-None-Match": first.headers["ETag"]})
    assert changed.status_code == 200
    assert changed.json() != first.json()


@pytest.mark.fault("F111")
@pytest.mark.parametrize("address", ["/api/products/999999/", "/api/products/?min_price=x"])
def test_f111_a_refusal_is_not_kept(address):
    answer = api().get(address)

    assert answer.status_code in {400, 404}
    assert "max-age" not in answer.headers.get("Cache-Control", "")
