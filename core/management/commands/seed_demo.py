"""``manage.py seed_demo``: create a small sample shop."""

import os
from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils.text import slugify

from accounts.models import User
from celery_ledger.management.database import told_in_one_line
from store.managers import MANAGERS
from store.models import Collection, Customer, Product, Stock
from webhooks.models import Event, Version, WebhookEndpoint

#: Every account's password is "shopwire-" and its name.
ACCOUNTS: dict[str, dict[str, bool]] = {
    "demo": {},
    "manager": {"is_staff": True},
    "admin": {"is_staff": True, "is_superuser": True},
}
#: What a manager may do in the admin besides looking at everything.
MANAGERS_CHANGE = ("collection", "product", "stock")
#: What a manager may do with orders, such as ship and cancel them, and with the tasks that follow from them.
MANAGERS_OPERATE = (
    "change_order",
    "replay_durabletask",
    "discard_durabletask",
    "cancel_durabletask",
    "change_queueswitch",
)
ON_HAND = 500
#: How the endpoint of run.py's own receiver is recognised.
CATCHER = "The catcher of run.py"

#: The n-th product of the catalogue, counted from one, has the SKU "DEMO-n".
CATALOGUE: dict[str, dict[str, str]] = {
    "Kitchen": {
        "Enamel saucepan": "24.50",
        "Oak chopping board": "18.00",
        "Set of four egg cups": "9.95",
        "Stoneware mixing bowl": "16.75",
        "Linen tea towel": "6.50",
        "Cast-iron trivet": "11.25",
        "Olive-wood spoon": "5.40",
        "Glass storage jar": "7.80",
    },
    "Garden": {
        "Galvanised watering can": "21.00",
        "Hand trowel": "8.95",
        "Bird feeder": "12.50",
        "Terracotta pot": "4.75",
        "Ball of jute twine": "3.20",
        "Secateurs": "19.90",
        "Seed tin": "10.00",
        "Kneeling mat": "9.50",
    },
    "Stationery": {
        "Clothbound notebook": "8.50",
        "Fountain pen": "32.00",
        "Bottle of blue ink": "7.25",
        "Box of letter paper": "11.00",
        "Brass ruler": "6.80",
        "Pack of 24 pencils": "12.40",
        "Desk calendar": "9.00",
        "Wax seal kit": "15.60",
    },
    "Lighting": {
        "Paper lantern": "5.95",
        "Heart T-light holder": "2.55",
        "Brass desk lamp": "58.00",
        "String of festoon lights": "27.50",
        "Beeswax candle": "6.20",
        "Storm lantern": "22.90",
        "Wall sconce": "39.00",
        "Box of matches": "1.95",
    },
    "Toys": {
        "Wooden train": "17.50",
        "Set of skittles": "14.00",
        "Spinning top": "3.90",
        "Jack in the box": "12.80",
        "Building blocks": "23.00",
        "Kite": "10.50",
        "Rag doll": "16.20",
        "Tin robot": "13.75",
    },
}


class Command(BaseCommand):
    help = (
        "Create a sample catalogue and the accounts demo, manager and admin, for development only: their passwords "
        "are public. Existing data is not changed."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="run migrations first if necessary")
        parser.add_argument(
            "--catcher",
            nargs=2,
            metavar=("URL", "FILE"),
            help="send all events to run.py's webhook receiver, and write its secret to FILE",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with told_in_one_line():
            connection.ensure_connection()
        if options["migrate"]:
            self.migrate()
        if not settings.DEBUG:
            self.stdout.write("DEBUG is off: no sample catalogue and no demo accounts are created.")
            return
        with transaction.atomic():
            self.stdout.write(f"{fill_catalogue()} products and {create_accounts()} accounts are new.")
            if options["catcher"]:
                subscribe_catcher(*options["catcher"])

    def migrate(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, stdout=self.stdout)


def subscribe_catcher(url: str, file: str) -> None:
    """Subscribe the receiver started by run.py to every event; a disabled one stays disabled."""
    endpoint = WebhookEndpoint.objects.filter(description=CATCHER).first()
    if endpoint is None:
        endpoint = WebhookEndpoint(description=CATCHER, events=sorted(Event.values), version=max(Version))
    if endpoint.url != url:
        endpoint.url = url
        endpoint.save()
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as secret:
        secret.write(endpoint.secret)
    Path(file).chmod(0o600)


def fill_catalogue() -> int:
    """Add missing parts of the sample catalogue, with stock, and return how many products were added."""
    lines = [(shelf, title, price) for shelf, prices in CATALOGUE.items() for title, price in prices.items()]
    wanted = {f"DEMO-{number:02}": line for number, line in enumerate(lines, start=1)}
    there = set(Product.objects.filter(sku__in=wanted).values_list("sku", flat=True))
    missing = wanted.keys() - there
    if not missing:
        return 0
    shelves = {title: Collection.objects.get_or_create(title=title)[0] for title in CATALOGUE}
    products = Product.objects.bulk_create(
        Product(
            sku=sku,
            title=title,
            slug=slugify(title),
            unit_price=Decimal(price),
            collection=shelves[shelf],
        )
        for sku, (shelf, title, price) in wanted.items()
        if sku in missing
    )
    Stock.objects.bulk_create(Stock(product=product, on_hand=ON_HAND) for product in products)
    return len(products)


def create_accounts() -> int:
    """Add missing sample accounts, and return how many were added."""
    missing = ACCOUNTS.keys() - set(User.objects.filter(username__in=ACCOUNTS).values_list("username", flat=True))
    for username in missing:
        user = User.objects.create_user(
            username=username,
            email=f"{username}@shopwire.example",
            password=f"shopwire-{username}",
            **ACCOUNTS[username],
        )
        Customer.objects.get_or_create(user=user)
        if username == "manager":
            managers, _ = Group.objects.get_or_create(name=MANAGERS)
            managers.permissions.add(*what_managers_may())
            user.groups.add(managers)
    return len(missing)


def what_managers_may() -> list[Permission]:
    ours = Permission.objects.filter(
        content_type__app_label__in=["store", "email_app", "analytics_app", "notifications", "celery_ledger"]
    )
    changes = [f"{verb}_{thing}" for verb in ("add", "change") for thing in MANAGERS_CHANGE]
    return [*ours.filter(codename__startswith="view_"), *ours.filter(codename__in=[*changes, *MANAGERS_OPERATE])]
