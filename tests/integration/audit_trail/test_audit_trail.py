"""Actions are recorded, each entry by its event, and the record is append-only."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audit_trail import audit, tasks
from audit_trail.models import AuditEntry
from celery_ledger.desk import turns
from celery_ledger.testing import drain
from store.models import Collection, PriceChange, Product
from tests.shop import (
    api,
    browser_of,
    check_out,
    edit_in_admin,
    make_cart,
    make_customer,
    make_manager,
    make_product,
    make_user,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def forget():
    """Some of these tests fail to sign in on purpose, all from one address."""
    from django.core.cache import cache

    cache.clear()
    yield
    cache.clear()


def trail(thing, *what):
    entries = AuditEntry.objects.filter(model=thing._meta.label_lower, object_id=str(thing.pk)).order_by("id")
    return [entry for entry in entries if not what or entry.what in what]


def test_an_edit_of_a_product_says_who_what_before_and_after():
    manager, product = make_manager(), make_product(price="10.00", title="Tea")
    edit_in_admin(manager, product, title="Green tea", unit_price="11.00")
    [entry] = trail(product, "changed")
    assert entry.who == manager
    assert entry.before == {"title": "Tea", "unit_price": "10.00"}
    assert entry.after == {"title": "Green tea", "unit_price": "11.00"}
    assert entry.request_id
    [action] = trail(product, "admin")
    assert (action.who, action.after) == (manager, {"action": "Change", "fields": ["Title", "Unit price"]})


def test_an_edit_of_stock_is_on_record():
    manager, product = make_manager(), make_product(stock=10)
    edit_in_admin(manager, product, **{"stock-0-on_hand": "7"})
    [entry] = trail(product.stock, "changed")
    assert (entry.who, entry.before, entry.after) == (manager, {"on_hand": 10}, {"on_hand": 7})


def test_what_is_made_and_deleted_in_the_admin_is_on_record():
    manager = make_manager()
    client = browser_of(manager)
    client.post(reverse("admin:store_collection_add"), {"title": "Garden"}, headers={"X-Request-ID": "made-1"})
    collection = Collection.objects.get()
    [entry] = trail(collection, "created")
    assert (entry.who, entry.request_id, entry.after["title"]) == (manager, "made-1", "Garden")
    client.post(reverse("admin:store_collection_delete", args=[collection.pk]), {"post": "yes"})
    [entry] = trail(collection, "deleted")
    assert (entry.who, entry.before["title"]) == (manager, "Garden")


def test_a_save_that_changes_nothing_is_not_on_record():
    product = make_product()
    product.save()
    assert trail(product, "changed") == []


def test_what_is_undone_leaves_no_trail():
    product = make_product(price="10.00")
    product.unit_price = -1
    with pytest.raises(DatabaseError):
        product.save()
    assert trail(product, "changed") == []


def test_orders_are_on_record_with_who_and_request_however_many_at_once():
    buyer = make_customer()
    cart = make_cart({make_product(): 1}, buyer)
    response = api(buyer).post(
        "/api/orders/", {"cart_id": str(cart.id)}, format="json", headers={"X-Request-ID": "order-1"}
    )
    other = make_customer()
    check_out(api(other), make_cart({make_product(): 1}, other))
    api(buyer).post(f"/api/orders/{response.json()['id']}/cancel/")
    drain()
    placed, cancelled = AuditEntry.objects.filter(model="store.order", object_id=response.json()["id"]).order_by("id")
    assert (placed.what, placed.who, placed.request_id) == ("placed", buyer.user, "order-1")
    assert (cancelled.what, cancelled.before, cancelled.after) == (
        "cancelled",
        {"status": "placed"},
        {"status": "cancelled"},
    )
    assert AuditEntry.objects.filter(what="placed", who=other.user).count() == 1


def test_who_is_known_of_a_bearer_of_a_token():
    buyer = make_customer(password="correct horse battery")
    client = api()
    answer = client.post("/api/token/", {"username": buyer.user.username, "password": "correct horse battery"})
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    check_out(client, make_cart({make_product(): 1}, buyer))
    drain()
    assert AuditEntry.objects.get(what="placed").who == buyer.user


def test_groups_that_a_user_is_put_into_are_on_record():
    manager, user = make_manager(), make_user()
    group = Group.objects.create(name="packers")
    user.groups.add(group)
    user.groups.clear()
    user.groups.add(group)
    user.groups.remove(group)
    entries = trail(user, "linked", "unlinked")
    ids = {"auth.group": [group.pk]}
    assert [(entry.what, entry.before, entry.after) for entry in entries] == [
        ("linked", {}, ids),
        ("unlinked", ids, {}),
        ("linked", {}, ids),
        ("unlinked", ids, {}),
    ]
    assert [entry.what for entry in trail(manager, "linked")] == ["linked"]


def test_a_login_by_form_and_by_token_is_on_record_and_sets_the_last_login():
    user = make_manager(password="correct horse battery")
    client = Client()
    form = {"username": user.username, "password": "correct horse battery"}
    assert client.post(reverse("admin:login"), form).status_code == 302
    assert api().post("/api/token/", form).status_code == 200
    assert [entry.who for entry in trail(user, "logged in")] == [user, user]
    user.refresh_from_db()
    assert user.last_login is not None


def test_a_failed_login_is_on_record_without_what_was_typed():
    user = make_user(password="correct horse battery")
    for name in (user.username, "my secret in the wrong field"):
        assert api().post("/api/token/", {"username": name, "password": "wrong"}).status_code == 401
    known, unknown = AuditEntry.objects.filter(what="login failed").order_by("id")
    assert (known.object_id, known.who, unknown.object_id) == (str(user.pk), None, "")
    assert "secret" not in str(list(AuditEntry.objects.values()))


def test_the_trail_is_only_ever_added_to():
    product = make_product()
    entry = trail(product)[0]
    for change in (
        entry.save,
        entry.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(what="x"),
        lambda: AuditEntry.objects.bulk_update([entry], ["what"]),
    ):
        with pytest.raises(TypeError, match="append-only"):
            change()


@pytest.mark.postgresql
@pytest.mark.parametrize("statement", ["UPDATE core_auditentry SET what = 'x'", "DELETE FROM core_auditentry"])
def test_the_database_itself_refuses_to_change_the_trail(statement):
    make_product()
    with pytest.raises(DatabaseError, match="only ever added to"), transaction.atomic():
        connection.cursor().execute(statement)


class TestRetention:
    @pytest.fixture
    def old(self):
        """Entries of a hundred days ago, one of them of an order."""
        long_ago = timezone.now() - timedelta(days=100)
        for what, model in (("changed", "store.product"), ("logged in", "core.user"), ("placed", "store.order")):
            AuditEntry.objects.create(what=what, model=model, object_id="1", at=long_ago)
        AuditEntry.objects.create(what="changed", model="store.product", object_id="2")

    def test_everything_is_kept_unless_somebody_says_otherwise(self, old):
        assert tasks.prune_audit_trail.run() == 0
        assert AuditEntry.objects.count() == 4

    def test_what_is_older_goes_but_for_orders(self, old, settings, monkeypatch):
        settings.AUDIT_RETENTION_DAYS = 90
        monkeypatch.setattr(audit, "BATCH", 1)
        assert tasks.prune_audit_trail.run() == 2
        kept = AuditEntry.objects.order_by("id").values_list("model", "object_id")
        assert list(kept) == [("store.order", "1"), ("store.product", "2")]

    def test_what_takes_long_is_carried_on_by_another_task(self, old, settings, monkeypatch):
        settings.AUDIT_RETENTION_DAYS = 90
        monkeypatch.setattr(audit, "BATCH", 1)
        monkeypatch.setattr(turns, "TURN", -1)
        assert tasks.prune_audit_trail.run() == 1
        drain()
        assert AuditEntry.objects.count() == 2

    @pytest.mark.postgresql
    def test_the_database_lets_nobody_delete_what_is_young(self, old):
        with (
            pytest.raises(DatabaseError, match="only ever added to"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT set_config('shopwire.prune_audit_trail', 'on', true)")
            cursor.execute("DELETE FROM core_auditentry")
        assert AuditEntry.objects.count() == 4


def test_the_trail_outlives_the_users_that_it_names():
    manager, product = make_manager(), make_product()
    edit_in_admin(manager, product, title="Other")
    number = manager.pk
    from django.contrib.admin.models import LogEntry

    LogEntry.objects.all().delete()
    manager.delete()
    assert trail(product, "changed")[0].who_id == number


def test_a_fixture_leaves_no_trail(tmp_path):
    make_product()
    path = tmp_path / "catalogue.json"
    call_command("dumpdata", "store.product", "store.stock", output=str(path))
    before = AuditEntry.objects.count()
    call_command("loaddata", str(path), verbosity=0)
    assert (AuditEntry.objects.count(), Product.objects.count()) == (before, 1)


def test_a_data_migration_leaves_no_trail_and_no_price_change():
    from django.db.migrations.loader import MigrationLoader

    historical = MigrationLoader(connection).project_state().apps.get_model("store", "Product")
    product = historical.objects.create(sku="A", title="A", slug="a", unit_price=1)
    product.unit_price = 2
    product.save()
    product.delete()
    assert not AuditEntry.objects.exists()
    assert not PriceChange.objects.exists()


def test_users_who_are_deleted_many_at_once_in_the_admin_are_on_record_without_what_they_were():
    manager, users = make_manager(), [make_user(), make_user()]
    client = browser_of(manager)
    form = {"action": "delete_selected", "_selected_action": [user.pk for user in users], "post": "yes"}
    assert client.post(reverse("admin:core_user_changelist"), form).status_code == 302
    entries = AuditEntry.objects.filter(what="deleted", model="core.user").order_by("id")
    assert sorted(int(entry.object_id) for entry in entries) == sorted(user.pk for user in users)
    assert {entry.who for entry in entries} == {manager}
    assert all(entry.before == {} for entry in entries)


def test_a_visitor_who_is_not_signed_in_is_nobody():
    buyer = make_customer()
    assert api().get("/api/products/").status_code == 200
    assert not AuditEntry.objects.filter(who=buyer.user).exists()
