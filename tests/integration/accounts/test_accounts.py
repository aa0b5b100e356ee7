"""Registration, bearer tokens and the user's profile."""

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError

from store.models import Customer
from store.serializers import CustomerSerializer
from tests.shop import api, make_customer, make_user

pytestmark = pytest.mark.django_db

GOOD = {"username": "ada", "email": "ada@example.com", "password": "correct horse battery"}


def register(**changes):
    return api().post("/api/users/", {**GOOD, **changes}, format="json")


def pointers(response):
    assert response.status_code == 400, response.content
    return {error["pointer"] for error in response.json()["errors"]}


def test_a_new_user_has_a_customer_profile():
    response = register()

    assert response.status_code == 201
    user = get_user_model().objects.get()
    assert response.json() == {"id": user.id, "username": "ada", "email": "ada@example.com"}
    assert user.check_password(GOOD["password"])
    assert Customer.objects.get().user == user


@pytest.mark.parametrize("password", ["", "short1!", "password123", "12345678901", "ada@example.com", None, 5])
def test_a_weak_password_is_a_400(password):
    assert pointers(register(password=password)) == {"/password"}
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize("username", ["ada", "ADA", "\uff41da"])
def test_a_taken_name_is_a_400_whatever_its_case_or_form(username):
    register()

    assert pointers(register(username=username, email="other@example.com")) == {"/username"}


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM", "Ada@example.com"])
def test_a_taken_address_is_a_400_whatever_its_case(email):
    register()

    assert pointers(register(username="grace", email=email)) == {"/email"}


def test_the_database_itself_refuses_a_name_or_address_that_differs_in_case_only():
    make_user(username="ada")
    with pytest.raises(IntegrityError):
        make_user(username="Ada")


@pytest.mark.parametrize("username", ["", "a b", "a\nb", "x" * 151, "<script>", None, [], True])
def test_a_name_that_is_none_is_a_400(username):
    assert pointers(register(username=username)) == {"/username"}


@pytest.mark.parametrize("email", ["", "x", "x@", "a b@example.com", "a@b\n.com", "x" * 250 + "@example.com", None, 5])
def test_an_address_that_is_none_is_a_400(email):
    assert pointers(register(email=email)) == {"/email"}


@pytest.mark.parametrize("field", ["is_staff", "is_superuser", "id", "groups", "customer"])
def test_nobody_registers_with_more_than_they_may_say(field):
    assert pointers(register(**{field: 1})) == {f"/{field}"}
    assert not get_user_model().objects.exists()


def test_a_failed_profile_leaves_no_user(monkeypatch):
    def fail(*args, **kwargs):
        raise IntegrityError

    monkeypatch.setattr(Customer.objects, "create", fail)

    assert register().status_code == 400
    assert not get_user_model().objects.exists()


def sign_in(**changes):
    return api().post("/api/token/", {"username": "ada", "password": GOOD["password"], **changes}, format="json")


def test_a_token_signs_its_user_in():
    register()
    tokens = sign_in().json()

    client = api()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")

    assert set(tokens) == {"access", "refresh"}
    assert client.get("/api/customers/me/").json()["username"] == "ada"


def test_a_password_keeps_its_blanks():
    register(password="  blanks on both sides  ")

    assert sign_in(password="  blanks on both sides  ").status_code == 200
    assert sign_in(password="blanks on both sides").status_code == 401


def test_a_refresh_token_gives_a_new_access_token():
    register()

    response = api().post("/api/token/refresh/", {"refresh": sign_in().json()["refresh"]}, format="json")

    assert (response.status_code, set(response.json())) == (200, {"access", "refresh"})


@pytest.mark.parametrize(
    ("refresh", "status"), [("x", 401), ("\n\n", 401), (" ", 401), ("", 400), (None, 400), (1, 400)]
)
def test_a_refresh_token_that_is_none_is_refused(refresh, status):
    assert api().post("/api/token/refresh/", {"refresh": refresh}, format="json").status_code == status


@pytest.mark.parametrize("wrong", [{"password": "x"}, {"username": "nobody"}, {"username": "x" * 5000}])
def test_a_wrong_name_or_password_is_a_401(wrong):
    register()

    response = sign_in(**wrong)

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_user_who_was_locked_out_gets_no_token_and_their_token_no_answer():
    register()
    access = sign_in().json()["access"]
    get_user_model().objects.update(is_active=False)

    assert sign_in().status_code == 401
    assert api().get("/api/customers/me/", headers={"Authorization": f"Bearer {access}"}).status_code == 401


def test_the_tokens_of_a_user_who_is_gone_are_401s():
    register()
    tokens = sign_in().json()
    get_user_model().objects.all().delete()

    assert api().post("/api/token/refresh/", {"refresh": tokens["refresh"]}, format="json").status_code == 401
    answer = api().get("/api/customers/me/", headers={"Authorization": f"Bearer {tokens['access']}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("header", ["Bearer x", "Bearer", "Bearer a b", "Bearer \xe9", "Basic eDp5"])
def test_a_token_that_is_none_is_a_401(header):
    response = api().get("/api/customers/me/", headers={"Authorization": header})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_refresh_token_is_no_access_token():
    register()
    answer = api().get("/api/customers/me/", headers={"Authorization": f"Bearer {sign_in().json()['refresh']}"})

    assert answer.status_code == 401


def test_one_query_finds_a_bearer_and_the_profile(django_assert_num_queries):
    register()
    access = sign_in().json()["access"]

    with django_assert_num_queries(1):
        answer = api().get("/api/customers/me/", headers={"Authorization": f"Bearer {access}"})
        assert answer.status_code == 200


def test_the_profile_is_what_the_contract_says():
    customer = make_customer(username="ada", email="ada@example.com", first_name="Ada")

    assert api(customer).get("/api/customers/me/").json() == {
        "id": customer.id,
        "username": "ada",
        "email": "ada@example.com",
        "first_name": "Ada",
        "last_name": "",
        "phone": "",
        "birth_date": None,
    }


def test_a_user_who_came_without_a_profile_gets_one():
    customer = make_customer()
    user = customer.user
    customer.delete()
    user.refresh_from_db()

    assert api(user).get("/api/customers/me/").status_code == 200
    assert Customer.objects.filter(user=user).count() == 1


def test_the_profile_can_be_changed():
    customer = make_customer()
    changes = {
        "first_name": "Zoë",
        "last_name": "O'Neil \U0001f600",
        "phone": "+44 20 7946 0000",
        "birth_date": "1990-02-28",
    }

    response = api(customer).patch("/api/customers/me/", changes, format="json")

    assert response.status_code == 200
    assert changes.items() <= response.json().items()
    assert changes.items() <= api(get_user_model().objects.get()).get("/api/customers/me/").json().items()


@pytest.mark.parametrize(
    "change",
    [
        {"first_name": "a\r\nBcc: x@example.com"},
        {"last_name": "a\u2028b"},
        {"first_name": "x" * 151},
        {"first_name": None},
        {"first_name": 0},
        {"phone": 441234567},
        {"phone": "call me"},
        {"phone": "1" * 40},
        {"phone": "+44\n1234"},
        {"phone": "\u0661\u0662\u0663\u0664\u0665\u0666"},
        {"birth_date": "1990-02-30"},
        {"birth_date": "2999-01-01"},
        {"birth_date": "0001-01-01"},
        {"birth_date": 5},
        {"email": "x"},
        {"email": None},
        {"id": 5},
        {"username": "other"},
        {"user": 1},
        {"is_staff": True},
    ],
)
def test_what_no_profile_can_have_is_a_400(change):
    customer = make_customer()

    response = api(customer).patch("/api/customers/me/", change, format="json")

    assert pointers(response) == {f"/{name}" for name in change}


def test_an_address_of_somebody_else_cannot_be_taken():
    make_customer(email="taken@example.com")
    customer = make_customer(email="mine@example.com")

    assert pointers(api(customer).patch("/api/customers/me/", {"email": "Taken@example.com"}, format="json"))
    assert api(customer).patch("/api/customers/me/", {"email": "Mine@example.com"}, format="json").status_code == 200


def test_an_address_that_somebody_else_took_a_moment_ago_cannot_be_taken(monkeypatch):
    make_customer(email="taken@example.com")
    customer = make_customer(email="mine@example.com")
    monkeypatch.setattr(CustomerSerializer, "validate_email", lambda self, email: email)  # It was free then.

    response = api(customer).patch("/api/customers/me/", {"email": "taken@example.com"}, format="json")

    assert pointers(response) == {"/email"}
    customer.user.refresh_from_db()
    assert customer.user.email == "mine@example.com"


@pytest.mark.parametrize("method", ["get", "patch"])
def test_a_profile_needs_somebody_who_is_signed_in(method):
    assert getattr(api(), method)("/api/customers/me/").status_code == 401


def test_a_session_may_not_write_without_a_csrf_token():
    user = make_user(password="x")
    client = api()
    client.handler.enforce_csrf_checks = True
    client.force_login(user)

    assert client.get("/api/customers/me/").status_code == 200
    response = client.patch("/api/customers/me/", {"first_name": "x"}, format="json")
    assert response.status_code == 403
    assert response.headers["Content-Type"] == "application/problem+json"
