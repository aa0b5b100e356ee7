"""The admin's view of the figures: read-only."""

import pytest

from analytics_app import tasks
from analytics_app.models import DailySales, SaleRecord
from tests.shop import make_order

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("model", [SaleRecord, DailySales])
def test_the_figures_can_be_read_and_not_changed(admin_client, model):
    order = make_order()
    tasks.record_sale([order.pk])
    address = f"/admin/analytics_app/{model.__name__.lower()}/"
    query = str(order.pk) if model is SaleRecord else order.items.get().product.sku
    page = admin_client.get(address, {"q": query})
    assert page.status_code == 200
    assert len(page.context["cl"].result_list) == 1
    change = f"{address}{model.objects.get().pk}/change/"
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {}).status_code == 403
    assert admin_client.post(f"{address}add/", {}).status_code == 403
