"""The managers' daily sales report: figures, a chart and a table; and reports on demand, with progress."""

import csv
import io
from datetime import timedelta

import pytest
from celery.result import AsyncResult
from django.core import mail as outbox
from django.utils import timezone
from PIL import Image

from analytics_app.report import harmless
from celery_ledger.desk import dead_letters, graphs
from celery_ledger.errors import PermanentError
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from email_app import delivery
from email_app.models import EmailDelivery
from reports.tasks import send_daily_reports
from store.models import Order
from tests.shop import api, check_out, make_cart, make_customer, make_manager, make_product

pytestmark = pytest.mark.django_db(transaction=True)


def sell(product, quantity):
    buyer = make_customer()
    order = check_out(api(buyer), make_cart({product: quantity}, buyer)).json()
    Order.objects.filter(pk=order["id"]).update(placed_at=timezone.now() - timedelta(days=1))
    return order


def yesterday():
    return timezone.now().date() - timedelta(days=1)


def report_to(user):
    [message] = [
        message for message in outbox.outbox if message.to == [user.email] and message.subject.startswith("Sales of")
    ]
    return message


def parts_of(message):
    return {part.get_content_type(): part for part in message.message().walk()}


def test_every_manager_has_yesterdays_report_with_a_picture_and_a_table():
    manager, other = make_manager(first_name="Grace"), make_manager()
    sell(make_product(sku="TEA", title="Tea", price="2.50"), 4)
    sell(make_product(sku="=1+1", title="@mug", price="7.00"), 1)
    drain()
    send_daily_reports.delay()
    send_daily_reports.delay()
    drain()
    message = report_to(manager)
    assert report_to(other)
    assert "£17.00: 2 orders, 5 units" in message.body
    assert "4 x Tea (TEA): £10.00" in message.body
    parts = parts_of(message)
    html = parts["text/html"].get_payload(decode=True).decode()
    assert 'src="cid:chart"' in html
    assert "best day £17.00" in html
    assert "Grace" in html
    picture = parts["image/png"]
    assert picture["Content-ID"] == "<chart>"
    image = Image.open(io.BytesIO(picture.get_payload(decode=True)))
    assert (image.format, image.size) == ("PNG", (1040, 388))
    assert (0x24, 0x58, 0xD3) in {color for _, color in image.getcolors(1 << 20)}  # Yesterday's bar.
    table = list(csv.DictReader(io.StringIO(parts["text/csv"].get_payload(decode=True).decode())))
    assert [(row["sku"], row["title"], row["units"], row["revenue"]) for row in table] == [
        ("TEA", "Tea", "4", "10.00"),
        ("'=1+1", "'@mug", "1", "7.00"),
    ]
    assert EmailDelivery.objects.filter(kind="sales_report", reference=str(yesterday())).count() == 2


def test_a_report_that_is_dead_holds_up_the_note_that_all_were_sent_until_it_is_replayed(monkeypatch, caplog):
    managers = [make_manager(), make_manager()]
    refused = {managers[1].email}
    deliver = delivery.deliver

    def deliver_unless_refused(kind, *, recipient, **about):
        if recipient in refused:
            raise PermanentError("550 no such mailbox")
        deliver(kind, recipient=recipient, **about)

    monkeypatch.setattr(delivery, "deliver", deliver_unless_refused)
    send_daily_reports.delay()
    drain()
    dead = DurableTask.objects.get(name="core.tasks.send_report", status="dead")
    graph = graphs.graph_of(dead.canvas)
    assert graph.counts == {"succeeded": 1, "dead": 1, "held": 1}
    (note,) = [node for node in graph.nodes if node.title == "note_daily_reports"]
    assert [call.id for call in note.awaits] == [dead.id]

    refused.clear()
    dead_letters.replay([dead.id])
    drain()
    assert graphs.graph_of(dead.canvas).counts == {"succeeded": 3}
    assert f"The sales report of {yesterday()} has been sent to all 2 managers" in caplog.text


def test_a_day_without_sales_says_so():
    manager = make_manager()
    send_daily_reports.delay()
    drain()
    assert "Nothing was sold." in report_to(manager).body


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_table_has_no_formulas(cell):
    assert harmless(cell) == "'" + cell
    assert harmless("1 = " + cell) == "1 = " + cell


def test_a_report_on_demand_says_how_far_it_is_and_comes_each_time_it_is_asked_for(monkeypatch):
    manager = make_manager()
    client = api(manager)
    seen = []

    from reports import mail

    def look(step):
        def wrapped(*args, **kwargs):
            answer = client.get(f"/api/analytics/reports/{task_id}/").json()
            seen.append((step, answer["status"], answer["progress"]))
            return original[step](*args, **kwargs)

        return wrapped

    original = {"collect": mail.report.collect, "as_csv": mail.report.as_csv}
    for step in original:
        monkeypatch.setattr(mail.report, step, look(step))
    answer = client.post("/api/analytics/reports/", {"day": "2030-01-01"}, format="json")
    assert answer.status_code == 400
    answer = client.post("/api/analytics/reports/", {}, format="json")
    assert answer.status_code == 202
    task_id = answer.json()["id"]
    drain()
    assert seen == [
        ("collect", "running", {"done": 0, "of": 4, "step": "figures"}),
        ("as_csv", "running", {"done": 2, "of": 4, "step": "table"}),
    ]
    assert client.get(f"/api/analytics/reports/{task_id}/").json() == {
        "id": task_id,
        "status": "succeeded",
        "progress": None,
    }
    assert AsyncResult(task_id).state == "SUCCESS"
    task_id = client.post("/api/analytics/reports/", {}, format="json").json()["id"]
    drain()
    assert (
        len([message for message in outbox.outbox if message.to == [manager.email] and "Sales" in message.subject]) == 2
    )


def test_reports_are_for_staff_and_each_for_whoever_asked():
    client, other = api(make_manager()), api(make_manager())
    assert api().post("/api/analytics/reports/", {}).status_code == 401
    assert api(make_customer()).post("/api/analytics/reports/", {}).status_code == 403
    task_id = client.post("/api/analytics/reports/", {"day": "2020-01-31"}, format="json").json()["id"]
    assert DurableTask.objects.get(pk=task_id).args[1] == "2020-01-31"
    assert other.get(f"/api/analytics/reports/{task_id}/").status_code == 404
