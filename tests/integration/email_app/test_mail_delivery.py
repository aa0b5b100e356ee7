"""The life of a mail, up to the server: one row, one mail, one Message-ID."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.core import mail as outbox
from django.db import transaction

from celery_ledger.context import working_on
from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from email_app import outgoing, tasks
from email_app.models import EmailDelivery
from store.models import Order
from store.signals import order_cancelled, order_created
from tests.shop import make_customer, make_order, make_product, make_user

pytestmark = pytest.mark.django_db

CONFIRM = "email_app.tasks.send_order_confirmation"


@pytest.fixture(autouse=True)
def no_kept_connection():
    """Begin and end each test without a connection from another one."""
    outgoing.hang_up()
    yield
    outgoing.hang_up()


def html_of(message):
    return message.alternatives[0][0]


def test_an_order_is_confirmed_to_its_customer():
    product = make_product(title="Blue teapot", price="12.50")
    order = make_order(customer=make_customer(first_name="Ada"), lines=[(product, 3)], currency="GBP")

    tasks.send_order_confirmation(order.pk)

    (message,) = outbox.outbox
    assert message.to == [order.customer.user.email]
    assert message.subject == f"Your Shopwire order {order.pk}"
    for part in (message.body, html_of(message)):
        assert "Ada" in part
        assert "Blue teapot" in part
        assert "12.50" in part
        assert "£37.50" in part
        assert f"/orders/{order.pk}" in part
    row = EmailDelivery.objects.get()
    assert (row.kind, row.order, row.status, row.recipient) == ("order_confirmation", order, "sent", message.to[0])
    assert row.sent_at is not None


@pytest.mark.django_db(transaction=True)
def test_a_mail_that_another_worker_begins_at_the_same_moment_has_one_row(monkeypatch):
    order = make_order()
    create = EmailDelivery.objects.create

    def come_second(**values):
        create(**{**values, "message_id": "<of-the-first@shop.example>"})
        return create(**values)

    monkeypatch.setattr(EmailDelivery.objects, "create", come_second)
    tasks.send_order_confirmation(order.pk)
    assert EmailDelivery.objects.get().message_id == "<of-the-first@shop.example>"
    assert len(outbox.outbox) == 1


def test_a_mail_that_is_sent_is_not_sent_again():
    order = make_order()
    tasks.send_order_confirmation(order.pk)
    tasks.send_order_confirmation(order.pk)
    assert len(outbox.outbox) == 1
    assert EmailDelivery.objects.count() == 1


def test_the_message_id_is_of_the_shop_and_kept(settings):
    settings.DEFAULT_FROM_EMAIL = "Shopwire <shop@shop.example>"
    order = make_order()
    tasks.send_order_confirmation(order.pk)
    first = outbox.outbox[0].extra_headers["Message-ID"]
    assert re.fullmatch(r"<[0-9a-f-]{36}\.shopwire@shop\.example>", first)

    EmailDelivery.objects.update(status="pending", sent_at=None)  # As if the server's answer had been lost.
    tasks.send_order_confirmation(order.pk)
    assert outbox.outbox[1].extra_headers["Message-ID"] == first == EmailDelivery.objects.get().message_id


def test_a_mail_says_that_a_machine_sent_it_and_which_request_it_belongs_to():
    with working_on(request_id="request-1"):
        tasks.send_order_confirmation(make_order().pk)
    headers = outbox.outbox[0].message()
    assert headers["Auto-Submitted"] == "auto-generated"
    assert headers["X-Request-ID"] == "request-1"
    tasks.send_welcome(make_user().pk)
    assert "X-Request-ID" not in outbox.outbox[1].message()


def test_a_cancelled_order_has_both_mails_in_either_order():
    order = make_order(status=Order.Status.CANCELLED)
    tasks.send_order_cancellation(order.pk)
    tasks.send_order_confirmation(order.pk)
    cancellation, confirmation = outbox.outbox
    assert "has been cancelled" in cancellation.subject
    assert "has since been cancelled" in confirmation.body
    assert "has since been cancelled" in html_of(confirmation)


def test_links_lead_to_the_site_and_nowhere_else(settings):
    settings.SITE_URL = "https://shop.example"
    order = make_order(customer=make_customer(first_name="http://evil.example"))
    tasks.send_order_confirmation(order.pk)
    tasks.send_order_cancellation(order.pk)
    tasks.send_welcome(order.customer.user.pk)
    assert len(outbox.outbox) == 3
    for message in outbox.outbox:
        links = re.findall(r'(?:href|src)="([^"]*)"', html_of(message))
        assert links
        assert all(link.startswith("https://shop.example/") for link in links)


@pytest.mark.parametrize("task", [tasks.send_order_confirmation, tasks.send_order_cancellation])
def test_markup_in_names_is_shown_and_not_run(task):
    name = "<img src=x> & 'co'"
    customer = make_customer(first_name=name)
    task(make_order(customer=customer, lines=[(make_product(title="<script>1</script>"), 1)]).pk)
    (message,) = outbox.outbox
    assert "<img" not in html_of(message)
    assert "<script" not in html_of(message)
    assert "&lt;img src=x&gt; &amp; &#x27;co&#x27;" in html_of(message)
    assert name in message.body
    assert "<script>1</script>" in message.body


def test_markup_in_a_name_is_shown_in_a_welcome():
    user = make_user(first_name="<img src=x>", username="a'b")
    tasks.send_welcome(user.pk)
    (message,) = outbox.outbox
    assert "<img" not in html_of(message)
    assert "<img src=x>" in message.body
    assert "a'b" in message.body


@pytest.mark.fault("F65")
def test_a_newline_in_a_name_makes_no_header():
    order = make_order(customer=make_customer(first_name="Eve\r\nBcc: mallory@example.com"))
    tasks.send_order_confirmation(order.pk)
    message = outbox.outbox[0]
    assert "Bcc" not in message.message()
    assert message.recipients() == [order.customer.user.email]


@pytest.mark.parametrize("address", ["", "nobody", "eve@example.com\r\nBcc: mallory@example.com"])
def test_without_a_usable_address_the_mail_fails_for_good(address):
    order = make_order()
    get_user_model().objects.filter(pk=order.customer.user_id).update(email=address)
    with pytest.raises(PermanentError) as raised:
        tasks.send_order_confirmation(order.pk)
    row = EmailDelivery.objects.get()
    assert row.status == "failed"
    assert row.error == str(raised.value)
    assert "@" not in row.error
    assert outbox.outbox == []


def test_a_header_that_cannot_be_written_is_permanent():
    order = make_order()
    with working_on(request_id="1\r\nBcc: mallory@example.com"), pytest.raises(PermanentError) as raised:
        tasks.send_order_confirmation(order.pk)
    row = EmailDelivery.objects.get()
    assert (row.status, row.error) == ("failed", "The mail cannot be written: BadHeaderError.")
    assert "mallory" not in str(raised.value)


def test_a_replayed_mail_takes_the_mended_address():
    order = make_order()
    get_user_model().objects.filter(pk=order.customer.user_id).update(email="")
    with pytest.raises(PermanentError):
        tasks.send_order_confirmation(order.pk)
    get_user_model().objects.filter(pk=order.customer.user_id).update(email="new@example.com")

    tasks.send_order_confirmation(order.pk)

    row = EmailDelivery.objects.get()
    assert (row.status, row.error, row.recipient) == ("sent", "", "new@example.com")
    assert outbox.outbox[0].to == ["new@example.com"]


def test_in_development_each_mail_is_a_file(settings, tmp_path):
    settings.EMAIL_BACKEND = "email_app.mail_files.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path)
    orders = [make_order() for _ in range(3)]
    for order in orders:
        tasks.send_order_confirmation(order.pk)
    files = [path.read_text() for path in tmp_path.iterdir()]
    assert len(files) == 3
    for row in EmailDelivery.objects.all():
        assert sum(row.message_id in file for file in files) == 1


def test_an_order_or_user_that_is_gone_is_permanent():
    for task in (tasks.send_order_confirmation, tasks.send_order_cancellation, tasks.send_welcome):
        with pytest.raises(PermanentError, match="no longer exists"):
            task(404)
    assert EmailDelivery.objects.count() == 0


def test_the_queries_of_a_mail_do_not_grow_with_its_lines(django_assert_num_queries):
    small, large = make_order(lines=1), make_order(lines=30)
    # The order, the row (read, written), whether the address is verified, the lines, sent.
    for order in (small, large):
        with django_assert_num_queries(6):
            tasks.send_order_confirmation(order.pk)
    with django_assert_num_queries(2):
        tasks.send_order_confirmation(large.pk)


def test_an_order_enqueues_its_confirmation_by_id_alone():
    order = make_order()
    with transaction.atomic():
        order_created.send_robust(sender=Order, order=order)
    (row,) = DurableTask.objects.filter(name=CONFIRM)
    assert (row.args, row.kwargs, row.queue) == ([order.pk], {}, "email")


def test_a_cancellation_enqueues_its_mail():
    order = make_order(status=Order.Status.CANCELLED)
    with transaction.atomic():
        order_cancelled.send_robust(sender=Order, order=order)
    (row,) = DurableTask.objects.filter(name="email_app.tasks.send_order_cancellation")
    assert row.args == [order.pk]


def welcomes():
    return DurableTask.objects.filter(name="email_app.tasks.send_welcome")


def test_a_new_user_is_welcomed_once():
    user = make_user()
    user.first_name = "Changed"
    user.save()
    assert [row.args for row in welcomes()] == [[user.pk]]
    tasks.send_welcome(user.pk)
    tasks.send_welcome(user.pk)
    assert [message.subject for message in outbox.outbox] == ["Welcome to Shopwire"]


def test_a_user_from_a_fixture_is_not_welcomed():
    get_user_model()(username="raw", email="raw@example.com").save_base(raw=True)
    assert not welcomes().exists()


def test_a_user_that_is_rolled_back_is_owed_nothing():
    with transaction.atomic():
        make_user()
        assert welcomes().exists()
        transaction.set_rollback(True)
    assert not welcomes().exists()
