"""The daily sales report as a mail. Called by tasks.py."""

from collections.abc import Callable
from datetime import date
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.text import MIMEText
from typing import Any, Final

from django.conf import settings

from analytics_app import chart, report
from email_app import delivery
from email_app.models import EmailDelivery

#: The steps of a report, in order.
STEPS: Final = ("figures", "picture", "table", "mail")


def send(user: Any, day: date, *, reference: str, progress: Callable[[int, str], object]) -> None:
    """
    Send the report of ``day`` to ``user``, unless it was sent with this reference.

    ``progress`` is called with the number of finished steps and the name of the next.

    Raises:
        PermanentError: no attempt can succeed; see :func:`email_app.delivery.deliver`.
    """
    progress(0, STEPS[0])
    figures = report.collect(day)
    progress(1, STEPS[1])
    picture = MIMEImage(chart.draw(figures.revenues), "png")
    picture.add_header("Content-ID", "<chart>")
    picture.add_header("Content-Disposition", "inline", filename="sales.png")
    progress(2, STEPS[2])
    table = MIMEText(report.as_csv(figures), "csv", "utf-8")
    table.add_header("Content-Disposition", "attachment", filename=f"sales-{day.isoformat()}.csv")
    progress(3, STEPS[3])
    attachments: list[MIMEBase] = [picture, table]
    delivery.deliver(
        EmailDelivery.Kind.SALES_REPORT,
        recipient=user.email,
        user_id=user.pk,
        reference=reference,
        attachments=attachments,
        context={
            "user": user,
            "report": figures,
            "best": figures.products[: report.PRODUCTS_NAMED],
            "others": max(0, len(figures.products) - report.PRODUCTS_NAMED),
            "days_shown": report.DAYS_SHOWN,
            "figures_url": f"{settings.SITE_URL}/admin/analytics_app/dailysales/?day={day.isoformat()}",
        },
    )
    progress(4, "")
