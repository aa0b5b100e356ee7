"""Carts: anyone can create one; anonymous ones can be used by anyone with the id, others by their customer alone."""

import uuid

import pytest

from store.models import MAX_CART_LINES, Cart, CartItem, Product
from tests.shop import api, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db


def add(client, cart, product, quantity):
    product_id = getattr(product, "id", product)
    return client.post(f"/api/carts/{cart.id}/items/", {"product_id": product_id, "quantity": quantity}, format="json")


#: What is no quantity, whatever it looks like; those that JSON itself cannot say are in test_bad_bodies.py.
NO_QUANTITIES = [0, -1, -5, 10_001, 10**9, 2**31, 2**63, 1.0, 1.5, 5.0, True, False, None, "5", "x", "", [], [1], {}]


def test_anybody_can_make_a_cart():
    response = api().post("/api/carts/")

    assert response.status_code == 201
    cart = Cart.objects.get()
    assert response.json() == {"id": str(cart.id), "items": [], "total_price": "0.00", "currency": "GBP"}
    assert cart.customer is None


def test_a_cart_made_by_a_customer_belongs_to_that_customer():
    customer = make_customer()

    api(customer).post("/api/carts/", {}, format="json")

    assert Cart.objects.get().customer == customer


def test_a_new_cart_takes_no_fields():
    assert api().post("/api/carts/", {"customer": 1}, format="json").status_code == 400
    assert not Cart.objects.exists()


def test_a_cart_shows_its_lines_at_the_prices_of_now():
    tea = make_product(price="2.50", sku="TEA", title="Tea")
    cart = make_cart({tea: 3, make_product(price="1.00"): 1})

    shown = api().get(f"/api/carts/{cart.id}/").json()

    assert (shown["total_price"], shown["currency"]) == ("8.50", "GBP")
    line = shown["items"][0]
    assert line.pop("id") == cart.items.first().id
    assert line == {
        "product": tea.id,
        "sku": "TEA",
        "title": "Tea",
        "quantity": 3,
        "unit_price": "2.50",
        "total_price": "7.50",
        "available": 100,
    }
    Product.objects.filter(pk=tea.pk).update(unit_price="3.00")
    assert api().get(f"/api/carts/{cart.id}/").json()["total_price"] == "10.00"


def test_a_cart_of_many_lines_costs_as_many_queries_as_one_of_few(django_assert_num_queries):
    cart = make_cart({make_product(): 1 for _ in range(30)})

    with django_assert_num_queries(2):
        assert len(api().get(f"/api/carts/{cart.id}/").json()["items"]) == 30


def test_adding_answers_the_line():
    cart, tea = make_cart({}), make_product(price="2.50")

    response = add(api(), cart, tea, 2)

    assert response.status_code == 201
    item = CartItem.objects.get()
    assert (item.product, item.quantity) == (tea, 2)
    assert (response.json()["id"], response.json()["quantity"], response.json()["total_price"]) == (item.id, 2, "5.00")


def test_the_same_product_again_adds_up():
    cart, tea = make_cart({}), make_product()
    first = add(api(), cart, tea, 2)

    again = add(api(), cart, tea, 3)

    assert again.status_code == 201
    assert (again.json()["id"], again.json()["quantity"]) == (first.json()["id"], 5)
    assert CartItem.objects.get().quantity == 5


def test_the_sum_of_a_line_is_bounded_too():
    cart, tea = make_cart({}), make_product()
    assert add(api(), cart, tea, 10_000).status_code == 201

    response = add(api(), cart, tea, 1)

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/quantity"
    assert CartItem.objects.get().quantity == 10_000


def test_a_cart_has_at_most_a_thousand_lines():
    Product.objects.bulk_create(
        Product(sku=f"BULK{n}", title="Bulk", slug="bulk", unit_price=1) for n in range(MAX_CART_LINES + 1)
    )
    *most, last = Product.objects.order_by("id")
    cart = make_cart(dict.fromkeys(most, 1))

    assert add(api(), cart, last, 1).status_code == 400
    assert add(api(), cart, most[0], 1).status_code == 201
    assert cart.items.count() == MAX_CART_LINES


@pytest.mark.fault("F64")
@pytest.mark.parametrize("quantity", NO_QUANTITIES)
def test_what_is_no_quantity_cannot_be_added(quantity):
    cart = make_cart({})

    response = add(api(), cart, make_product(), quantity)

    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == ["/quantity"]
    assert not cart.items.exists()


@pytest.mark.parametrize("quantity", NO_QUANTITIES)
def test_what_is_no_quantity_cannot_be_set(quantity):
    cart = make_cart({make_product(): 7})

    response = api().patch(f"/api/carts/{cart.id}/items/{cart.items.get().id}/", {"quantity": quantity}, format="json")

    assert response.status_code == 400
    assert cart.items.get().quantity == 7


@pytest.mark.fault("F64")
@pytest.mark.parametrize("quantity", [1, 10_000])
def test_the_least_and_the_most_can_be_added_and_set(quantity):
    cart = make_cart({})
    item = add(api(), cart, make_product(), quantity).json()

    response = api().patch(f"/api/carts/{cart.id}/items/{item['id']}/", {"quantity": quantity}, format="json")

    assert (response.status_code, response.json()["quantity"]) == (200, quantity)


@pytest.mark.parametrize("product_id", ["1", True, None, 1.0, 0, -1, 2**63, [], {}, "x"])
def test_a_malformed_product_is_a_400(product_id):
    response = add(api(), make_cart({}), product_id, 1)

    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == ["/product_id"]


def test_an_unknown_product_is_a_404():
    assert add(api(), make_cart({}), 999_999, 1).status_code == 404
    assert add(api(), make_cart({}), 2**63 - 1, 1).status_code == 404


def test_missing_and_unknown_fields_are_named():
    cart = make_cart({})

    response = api().post(f"/api/carts/{cart.id}/items/", {"product_id": 1, "unit_price": "0.01"}, format="json")

    assert response.status_code == 400
    assert {error["pointer"] for error in response.json()["errors"]} == {"/quantity", "/unit_price"}


def test_a_line_can_be_taken_out():
    cart = make_cart({make_product(): 1, make_product(): 2})
    item = cart.items.first()

    assert api().delete(f"/api/carts/{cart.id}/items/{item.id}/").status_code == 204
    assert api().delete(f"/api/carts/{cart.id}/items/{item.id}/").status_code == 404
    assert cart.items.count() == 1


def test_a_line_of_another_cart_is_a_404():
    cart, other = make_cart({make_product(): 1}), make_cart({make_product(): 1})
    address = f"/api/carts/{cart.id}/items/{other.items.get().id}/"

    assert api().patch(address, {"quantity": 2}, format="json").status_code == 404
    assert api().delete(address).status_code == 404
    assert other.items.get().quantity == 1


def test_a_cart_can_be_thrown_away():
    cart = make_cart({make_product(): 1})

    assert api().delete(f"/api/carts/{cart.id}/").status_code == 204
    assert api().get(f"/api/carts/{cart.id}/").status_code == 404
    assert not CartItem.objects.exists()


@pytest.mark.parametrize("who", ["nobody", "somebody else"])
def test_a_customers_cart_is_a_404_for_others_in_every_way(who):
    owner = make_customer()
    cart = make_cart({make_product(): 1}, owner)
    item = cart.items.get()
    client = api() if who == "nobody" else api(make_customer())

    answers = [
        client.get(f"/api/carts/{cart.id}/"),
        client.delete(f"/api/carts/{cart.id}/"),
        add(client, cart, item.product, 1),
        client.patch(f"/api/carts/{cart.id}/items/{item.id}/", {"quantity": 5}, format="json"),
        client.delete(f"/api/carts/{cart.id}/items/{item.id}/"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 5
    assert client.post(f"/api/carts/{cart.id}/claim/").status_code == (401 if who == "nobody" else 404)
    assert answers[0].json() == client.get(f"/api/carts/{uuid.uuid4()}/").json()
    assert cart.items.get().quantity == 1


@pytest.mark.parametrize("cart_id", ["x", "1", "00000000-0000-0000-0000-00000000000g", "%00", "null"])
def test_a_malformed_id_in_an_address_is_a_404(cart_id):
    assert api().get(f"/api/carts/{cart_id}/").status_code == 404


def test_an_absurd_line_number_is_a_404():
    cart = make_cart({})

    assert api().delete(f"/api/carts/{cart.id}/items/{10**30}/").status_code == 404


@pytest.mark.fault("F110")
def test_f110_nobodys_cart_becomes_the_own_one_of_who_claims_it():
    ada, bob = make_customer(), make_customer()
    tea = make_product()
    cart = make_cart({tea: 2})

    claimed = api(ada).post(f"/api/carts/{cart.id}/claim/", {}, format="json")

    assert claimed.status_code == 200
    assert [(line["product"], line["quantity"]) for line in claimed.json()["items"]] == [(tea.id, 2)]
    assert api(ada).post(f"/api/carts/{cart.id}/claim/").status_code == 200
    for client in (api(), api(bob)):
        assert client.get(f"/api/carts/{cart.id}/").status_code == 404
    assert api(bob).post(f"/api/carts/{cart.id}/claim/").status_code == 404
    cart.refresh_from_db()
    assert cart.customer == ada


def test_nobody_claims_a_cart_without_signing_in():
    cart = make_cart({make_product(): 1})

    assert api().post(f"/api/carts/{cart.id}/claim/").status_code == 401
    assert api().get(f"/api/carts/{cart.id}/").status_code == 200


@pytest.mark.fault("F113")
@pytest.mark.parametrize(("stock", "available"), [(496, 496), (0, 0), (None, 0)])
def test_f113_a_line_says_how_many_there_are(stock, available):
    product = make_product(stock=stock)
    cart = make_cart({product: 2})

    [line] = api().get(f"/api/carts/{cart.id}/").json()["items"]

    assert line["available"] == available
    assert add(api(), cart, product, 1).json()["available"] == available
