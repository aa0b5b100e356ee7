"""Customers: every user has one profile, made with the user."""

from typing import Any, Final
from uuid import uuid4

from django.contrib.auth import get_user_model

from store.models import Customer

#: The domain of placeholder addresses; RFC 2606 reserves it.
NO_DOMAIN: Final = "customers.invalid"


class AddressTaken(Exception):  # noqa: N818 - It names what is the matter, as its readers say it.
    """A different account has this mail address."""


class TooManyAddresses(Exception):  # noqa: N818 - As above.
    """Too many confirmation mails were requested; ``wait`` is the number of seconds until the next."""

    def __init__(self, wait: float) -> None:
        super().__init__("Too many mails to confirm an address.")
        self.wait = wait


def customer_of(user: Any) -> Customer:
    """
    Return the profile of a signed-in user.

    It is created here for a user without one, for example from a fixture.
    """
    try:
        profile: Customer = user.customer
    except Customer.DoesNotExist:
        profile, _ = Customer.objects.get_or_create(user=user)
    return profile


def customer_or_none(user: Any) -> Customer | None:
    """Return the profile of ``user``, or None if they are not signed in."""
    return customer_of(user) if user.is_authenticated else None


def has_profile_in_memory(user: Any) -> bool:
    """Whether, without a query, a profile was assigned to ``user`` and will be saved after it."""
    return Customer._meta.get_field("user").remote_field.is_cached(user)


def make_user_of(profile: Customer) -> Any:
    """
    Save a user for a profile that has none yet, such as in an import, and return it.

    It has an unusable password, and a placeholder for the name and the address.
    """
    name = f"customer-{uuid4().hex[:16]}"
    user = get_user_model()(username=name, email=f"{name}@{NO_DOMAIN}")
    user.set_unusable_password()
    profile.user = user  # So that saving the user does not create a second profile.
    user.save()
    return user
