"""The admin's view of the mails: searchable and read-only."""

import pytest

from email_app import tasks
from email_app.models import EmailDelivery
from tests.shop import make_order

pytestmark = pytest.mark.django_db

LIST = "/admin/email_app/emaildelivery/"


def test_a_mail_is_found_by_order_and_address(admin_client):
    wanted, other = make_order(), make_order()
    for order in (wanted, other):
        tasks.send_order_confirmation(order.pk)
    for query in (str(wanted.pk), wanted.customer.user.email):
        page = admin_client.get(LIST, {"q": query, "kind__exact": "order_confirmation", "status__exact": "sent"})
        assert page.status_code == 200
        assert [mail.order_id for mail in page.context["cl"].result_list] == [wanted.pk]


def test_a_mail_is_read_only(admin_client):
    tasks.send_order_confirmation(make_order().pk)
    url = f"{LIST}{EmailDelivery.objects.get().pk}/change/"
    assert admin_client.get(url).status_code == 200
    assert admin_client.post(url, {"status": "pending"}).status_code == 403
    assert admin_client.post(f"{LIST}add/", {}).status_code == 403
    assert admin_client.post(url.replace("change", "delete"), {"post": "yes"}).status_code == 403
