"""``manage.py seed_demo``."""

import pytest
from django.contrib.auth import authenticate
from django.core.management import call_command

from accounts.models import User
from launcher.shop import ACCOUNTS
from store.models import Collection, Customer, Product, Stock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def development(settings):
    settings.DEBUG = True


def test_the_shop_has_things_to_sell():
    call_command("seed_demo", verbosity=0)
    assert Product.objects.count() == Stock.objects.filter(on_hand__gt=0).count() == 40
    assert Collection.objects.count() == 5


def test_the_accounts_that_the_launcher_prints_can_sign_in(rf):
    call_command("seed_demo", verbosity=0)
    users = {name: authenticate(rf.post("/"), username=name, password=password) for name, password, _ in ACCOUNTS}
    assert all(users.values())
    assert Customer.objects.filter(user=users["demo"]).exists()
    assert users["manager"].is_staff
    assert not users["manager"].is_superuser
    assert users["manager"].groups.filter(name="managers").exists()
    assert users["admin"].is_superuser


def test_a_second_time_changes_nothing_that_is_there(django_assert_max_num_queries):
    call_command("seed_demo", verbosity=0)
    Product.objects.filter(sku="DEMO-01").update(unit_price="1.11")
    Stock.objects.filter(product__sku="DEMO-01").update(on_hand=7)
    User.objects.get(username="demo").set_password("changed")
    with django_assert_max_num_queries(6):
        call_command("seed_demo", verbosity=0)
    assert str(Product.objects.get(sku="DEMO-01").unit_price) == "1.11"
    assert Stock.objects.get(product__sku="DEMO-01").on_hand == 7
    assert Product.objects.count() == 40
    assert User.objects.count() == 3


def test_without_debug_nobody_gets_an_account_with_a_public_password(settings, capsys):
    settings.DEBUG = False
    call_command("seed_demo")
    assert User.objects.count() == 0
    assert "DEBUG is off" in capsys.readouterr().out
