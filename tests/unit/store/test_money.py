"""Amounts read as the pages show them."""

from decimal import Decimal

import pytest

from store.money import money


@pytest.mark.fault("F113")
@pytest.mark.parametrize(
    ("amount", "currency", "read"),
    [
        ("31", "GBP", "£31.00"),
        ("1234.5", "EUR", "€1,234.50"),
        ("0.05", "USD", "US$0.05"),
        ("31", "CHF", "CHF\N{NO-BREAK SPACE}31.00"),
    ],
)
def test_f113_an_amount_has_the_sign_of_its_currency(amount, currency, read):
    assert money(Decimal(amount), currency) == read
