"""However many request SMS, no more are sent than granted, and only to served numbers, however they are written."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from phones import budget
from phones.models import PhoneVerification, SmsGrant
from phones.numbers import e164
from tests.shop import all_at_once, api, make_customer

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "+44 20 7946 0000"


def set_number(customer, number, address="198.51.100.7"):
    answer = api(customer).patch("/api/customers/me/", {"phone": number}, format="json", REMOTE_ADDR=address)
    assert answer.status_code == 200


def receivers(folder):
    """Return to whom messages went, once each time."""
    for _ in range(2):
        drain()
        DurableTask.objects.filter(status="pending").update(available_at=timezone.now() - timedelta(seconds=1))
    return [path.read_text().split()[1] for path in sorted(folder.glob("*.txt"))] if folder.exists() else []


@pytest.mark.fault("F100")
def test_twelve_accounts_at_once_have_one_code_sent_to_one_number(folder):
    customers = [make_customer() for _ in range(12)]
    spellings = ["+44 20 7946 0000", "020 7946 0000", "+44 (0)20 7946 0000", "+44-20-7946-0000"]
    all_at_once(
        [
            lambda customer=customer, number=spellings[index % 4]: set_number(customer, number)
            for index, customer in enumerate(customers)
        ]
    )
    assert receivers(folder) == ["+442079460000"]
    assert PhoneVerification.objects.count() == 1


@pytest.mark.fault("F100")
@pytest.mark.parametrize(
    "address",
    [lambda n: "198.51.100.7", lambda n: f"2001:db8:1:2::{n + 1:x}", lambda n: f"2001:db8:1:2:{n + 1:x}::5"],
    ids=["one IPv4 address", "a new IPv6 address each time", "another of a /64 each time"],
)
def test_sixty_numbers_from_one_address_are_not_all_texted(folder, settings, address):
    settings.SMS_PER_ADDRESS = 8
    for number in range(20):
        set_number(make_customer(), f"+44 20 7946 {number:04}", address(number))
    assert len(receivers(folder)) == 8
    set_number(make_customer(), "+44 20 7946 0100", "203.0.113.9")  # Other users are not held back.
    assert len(receivers(folder)) == 9


def test_twenty_numbers_at_once_from_one_address_keep_to_its_budget(folder, settings):
    settings.SMS_PER_ADDRESS = 3
    customers = [make_customer() for _ in range(12)]
    all_at_once(
        [
            lambda customer=customer, index=index: set_number(customer, f"+44 20 7946 {index:04}")
            for index, customer in enumerate(customers)
        ]
    )
    assert len(receivers(folder)) == 3


def test_the_shop_as_a_whole_has_a_budget_and_says_when_there_is_more(folder, settings):
    settings.SMS_PER_DAY = 3
    for number in range(5):
        set_number(make_customer(), f"+44 20 7946 {number:04}", f"198.51.100.{number}")
    assert len(receivers(folder)) == 3
    customer = make_customer()
    set_number(customer, "+44 20 7946 0009")
    refused = api(customer).post("/api/customers/me/phone/code/")
    assert refused.status_code == 429
    assert 86_000 < int(refused.headers["Retry-After"]) <= 86_400
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert api(customer).post("/api/customers/me/phone/code/").status_code == 202


@pytest.mark.parametrize(
    "number",
    [
        "+12025550123",  # a country that is not served
        "+447009001234",  # a personal number, which earns its owner money
        "+449098790000",  # premium
        "+442",  # no number at all
        "+44 99 9999 9999",  # an unassigned range
        "+88213300655",  # satellites
    ],
)
def test_where_no_sms_may_go_none_goes_and_one_is_told(folder, number):
    customer = make_customer()
    if len(number) > 5:
        set_number(customer, number)
    else:
        type(customer).objects.filter(pk=customer.pk).update(phone=number)
        customer.refresh_from_db()
    client = api(type(customer).objects.get(pk=customer.pk))
    assert client.get("/api/customers/me/phone/").json() == {"phone": number, "verified": False, "served": False}
    refused = client.post("/api/customers/me/phone/code/")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:shopwire:problem:number-not-served")
    assert receivers(folder) == []


def test_the_countries_are_the_operators_to_choose(settings):
    assert e164("202-555-0123") == ""
    settings.SMS_COUNTRIES = ["US"]
    assert e164("202-555-0123") == "+12025550123"
    assert e164(NUMBER) == ""


def test_a_number_has_so_many_messages_a_day_of_whatever_kind():
    for message in range(budget.A_NUMBER_A_DAY):
        budget.spend("+442079460000", reference=f"notification:{message}")
        budget.spend("+442079460000", reference=f"notification:{message}")  # Sent again: it costs once.
    with pytest.raises(budget.NoBudget):
        budget.spend("+442079460000", reference="notification:more")
    budget.spend("+442079460001", reference="notification:to another")


def test_what_was_granted_is_forgotten_after_two_days():
    budget.spend("+442079460000", reference="old")
    with time_machine.travel(timezone.now() + timedelta(days=3)):
        budget.spend("+442079460000", reference="new")
        assert [grant.reference for grant in SmsGrant.objects.all()] == ["new"]
