"""
Draw the pictures of docs/reference/mails.md: ``python -m tests.mail_pictures``.

Causes each mail in a shop of its own, on SQLite, and has Chromium draw it; run it after a change of a template.
The page says of each picture which templates it was drawn from, by their hash; a test compares that, so that CI
needs no Chromium.
"""

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "mails.md"
TEMPLATES = ROOT / "email_app" / "templates" / "email_app"
WIDTH, HEIGHT = 640, 1400
INTRODUCTION = """# The mails

Every mail has a text part and an HTML part; both are shown here. Drawn by `python -m tests.mail_pictures`.
"""
OCCASIONS = {
    "order_confirmation": "when an order is placed",
    "order_cancellation": "when an order is cancelled",
    "order_shipped": "when an order is sent out",
    "order_delivered": "when an order has arrived",
    "welcome": "when a user registers",
    "address_check": "to an address that has not been confirmed, also in place of emails about orders",
    "address_change": "to a verified address that its user wants to replace",
    "password_reset": "when a password reset is requested",
    "password_changed": "when a password has been changed",
    "duplicate_order": "to each manager when a customer places the same order again",
    "notification": "to users who chose email for notifications of this kind",
    "sales_report": "to each manager every morning, and to staff on request",
}


def main() -> None:
    if "MAIL_PICTURES" in os.environ:
        draw(Path(os.environ["MAIL_PICTURES"]))
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"sqlite:///{folder}/shop.sqlite3",
            "EMAIL_URL": "memorymail://",
            "SITE_URL": "https://shop.example",
            "MAIL_PICTURES": folder,
        }
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        subprocess.run([sys.executable, "-m", "tests.mail_pictures"], cwd=ROOT, env=environment, check=True)


def draw(folder: Path) -> None:
    import django

    django.setup()
    from django.core import mail

    from email_app.models import EmailDelivery

    mail.outbox = []
    cause_every_mail()
    page = [INTRODUCTION]
    pictures = PAGE.parent / "mails"
    pictures.mkdir(parents=True, exist_ok=True)
    for kind, when in OCCASIONS.items():
        id = EmailDelivery.objects.filter(kind=kind, status="sent").earliest("pk").message_id
        message = next(message for message in mail.outbox if message.extra_headers["Message-ID"] == id)
        picture(html_of(message), pictures / f"{kind}.png", folder)
        page += [f"## {message.subject}\n", f"Sent {when}.\n", f"![The mail as HTML](mails/{kind}.png)\n"]
        page.append(f"<!-- drawn from {kind}: {hash_of_sources(kind)} -->\n")
        page.append(f"```text\n{message.body.strip()}\n```\n")
    PAGE.write_text("\n".join(page))


def hash_of_sources(kind: str) -> str:
    """Return the SHA-256 of the templates of a mail, with all that they extend and include."""
    found = {}
    waiting = [f"{kind}.{part}" for part in ("subject", "txt", "html")]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = (TEMPLATES / name).read_text()
            waiting += re.findall(r'{% (?:extends|include) "email_app/([\w.]+)"', found[name])
    return hashlib.sha256("".join(f"{name}\n{found[name]}" for name in sorted(found)).encode()).hexdigest()


def cause_every_mail() -> None:
    from datetime import timedelta

    from django.conf import settings
    from django.utils import timezone

    from accounts import passwords
    from analytics_app.models import SaleRecord
    from celery_ledger.testing import drain
    from core.examples import SHIPPING_ADDRESS
    from core.management.commands.seed_demo import fill_catalogue
    from notifications.announce import notify
    from notifications.models import Kind
    from reports.tasks import send_daily_reports
    from store.models import Order, Product
    from store.shipping import deliver_orders, ship_orders
    from tests.shop import api, check_out, make_cart, make_customer, make_manager

    settings.ALLOWED_HOSTS = ["*"]
    fill_catalogue()
    products = list(Product.objects.order_by("id"))
    account = {"username": "lin", "email": "lin@shop.example", "password": "correct horse battery"}
    assert api().post("/api/users/", account, format="json").status_code == 201
    drain()
    ada = make_customer(username="ada", first_name="Ada", email="ada@shop.example")
    make_manager(username="grace", first_name="Grace", email="grace@shop.example")
    client = api(ada)
    lines = {products[0]: 1, products[7]: 6, products[24]: 2}
    first = check_out(client, make_cart(lines, ada), address=SHIPPING_ADDRESS).json()
    again = check_out(client, make_cart(lines, ada)).json()
    drain()
    client.post(f"/api/orders/{again['id']}/cancel/")
    ship_orders([first["id"]])
    deliver_orders([first["id"]])
    drain()
    api().post("/api/auth/password/reset/", {"email": "ada@shop.example"}, format="json")
    passwords.set_new(ada.user, "staple of a new horse")
    client.patch("/api/customers/me/", {"email": "ada@new.example"}, format="json")
    drain()
    # Two weeks of sales, for the picture in the report.
    for number in range(1, 15):
        for which in range(1 + number * 7 % 5):
            buyer = make_customer()
            cart = make_cart({products[(number * 3 + which) % 40]: 1 + which, products[which]: 2}, buyer)
            order = check_out(api(buyer), cart).json()
            Order.objects.filter(pk=order["id"]).update(placed_at=timezone.now() - timedelta(days=number))
    drain()
    assert SaleRecord.objects.count() > 14
    send_daily_reports.delay()
    client.put("/api/notifications/preferences/", {"kinds": {"announcement": {"email": True}}}, format="json")
    notify([ada.user_id], kind=Kind.ANNOUNCEMENT, message="We are closed on Sunday, and back on Monday at eight.")
    drain()


def html_of(message) -> str:
    [html] = [body for body, kind in message.alternatives if kind == "text/html"]
    for attachment in message.attachments:
        if attachment.get("Content-ID") == "<chart>":
            data = base64.b64encode(attachment.get_payload(decode=True)).decode()
            html = html.replace("cid:chart", f"data:image/png;base64,{data}")
    return html


def picture(html: str, target: Path, folder: Path) -> None:
    from PIL import Image, ImageChops

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "Name a Chromium in the environment variable CHROMIUM."
    source, raw = folder / "mail.html", folder / "mail.png"
    source.write_text(html)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    subprocess.run(
        [chromium, *options, f"--user-data-dir={folder}/chromium", f"--screenshot={raw}", f"file://{source}"],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(raw) as image:
        paper = Image.new("RGB", image.size, image.convert("RGB").getpixel((0, HEIGHT - 1)))
        box = ImageChops.difference(image.convert("RGB"), paper).getbbox()
        assert box, "The picture is empty."
        image.convert("RGB").crop((0, 0, WIDTH, box[3] + 24)).quantize(64).save(target, optimize=True)


if __name__ == "__main__":
    main()
