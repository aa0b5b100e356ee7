"""Many checkouts at once cross a threshold once."""

import pytest

from store.models import Stock
from store.signals import stock_low
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_threshold_that_ten_checkouts_at_once_pass_is_crossed_once():
    product = make_product(stock=12, low_stock_threshold=7)
    carts = [(buyer, make_cart({product: 1}, buyer)) for buyer in (make_customer() for _ in range(10))]
    heard = []

    def hear(sender, product, **kwargs):
        heard.append(product.pk)

    stock_low.connect(hear, dispatch_uid="tests.hear")
    try:
        responses = all_at_once([lambda b=buyer, c=cart: check_out(api(b), c) for buyer, cart in carts])
    finally:
        stock_low.disconnect(dispatch_uid="tests.hear")
    assert [response.status_code for response in responses] == [201] * 10
    assert Stock.objects.get(product=product).available == 2
    assert heard == [product.pk]
