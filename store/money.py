"""Formatting of amounts of money, as on the shop's pages; also for mails and notifications."""

from decimal import Decimal
from typing import Final

#: Currencies whose sign is common in British English, the pages' language.
SIGNS: Final = {"GBP": "£", "EUR": "€", "USD": "US$"}
#: Separates a currency without a sign from its amount, without allowing a line break.
SPACE: Final = "\N{NO-BREAK SPACE}"


def money(amount: Decimal, currency: str) -> str:
    """Format an amount with its currency's sign: 1,200.50 of GBP is £1,200.50."""
    sign = SIGNS.get(currency, currency + SPACE)
    return f"{sign}{amount:,.2f}"
