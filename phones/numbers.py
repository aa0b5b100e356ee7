"""
Phone numbers in international format (E.164), and which of them may receive SMS.

The shop accepts a number as the customer types it. It pays for SMS only to valid numbers of a type in
:data:`SERVED_TYPES`, in a country of ``SMS_COUNTRIES``; a number without a country prefix is assumed to belong to the
first of these countries.
"""

from typing import Final

import phonenumbers
from django.conf import settings
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

#: The types of ordinary numbers. Premium, shared-cost and personal numbers earn their owner money when dialled.
SERVED_TYPES: Final = frozenset(
    {
        PhoneNumberType.MOBILE,
        PhoneNumberType.FIXED_LINE,
        PhoneNumberType.FIXED_LINE_OR_MOBILE,
        PhoneNumberType.VOIP,
    }
)


def e164(phone: str) -> str:
    """Return a number as ``+442079460000``, however it is typed; empty if it may not receive SMS."""
    try:
        number = phonenumbers.parse(phone, settings.SMS_COUNTRIES[0])
    except NumberParseException:
        return ""
    served = (
        phonenumbers.is_valid_number(number)
        and phonenumbers.number_type(number) in SERVED_TYPES
        and phonenumbers.region_code_for_number(number) in settings.SMS_COUNTRIES
        and not number.extension
    )
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) if served else ""
