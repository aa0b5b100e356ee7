"""Shipping addresses, in the API and in mails."""

from typing import Any, Final

from django.core.validators import RegexValidator
from rest_framework import serializers

from store.models import Order, ShippingAddress
from web.fields import StrictSerializer, TextField

#: The countries of ISO 3166-1.
_CODES: Final = """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
"""
COUNTRIES: Final = tuple(_CODES.split())
#: Not allowed in a line of an address: line breaks and other control characters.
CONTROLS: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
LINE: Final = rf"^[^{CONTROLS}]*[^{CONTROLS}\s][^{CONTROLS}]*$"
LINE_OR_NOTHING: Final = rf"^[^{CONTROLS}]*$"
#: The fields of an address, in the order of an envelope.
PARTS: Final = ("name", "line1", "line2", "city", "region", "postal_code", "country")


class AddressLine(TextField):
    """One line of an address. ``optional``: it may be left out or empty."""

    def __init__(self, max_length: int, *, optional: bool = False, **kwargs: Any) -> None:
        if optional:
            kwargs |= {"required": False, "allow_blank": True}
        validator = RegexValidator(LINE_OR_NOTHING if optional else LINE, "This must be a single line of text.")
        super().__init__(max_length=max_length, validators=[validator], **kwargs)


class ShippingAddressSerializer(StrictSerializer):
    """The shipping address of an order."""

    name = AddressLine(150, help_text="Who receives the goods.")
    line1 = AddressLine(200, help_text="Street and number.")
    line2 = AddressLine(200, optional=True, help_text="Flat, floor or company.")
    city = AddressLine(100)
    region = AddressLine(100, optional=True, help_text="State, province or county, if the address has one.")
    postal_code = AddressLine(20, optional=True, help_text="Empty in countries that have none.")
    country = serializers.ChoiceField(choices=COUNTRIES, help_text="ISO 3166-1 alpha-2.")


class ToldAddressSerializer(serializers.ModelSerializer[ShippingAddress]):
    """The shipping address given at checkout."""

    class Meta:
        model = ShippingAddress
        fields = PARTS
        read_only_fields = fields


def address_of(order: Order) -> ShippingAddress | None:
    """Return the shipping address of an order, or None."""
    try:
        return order.shipping_address
    except ShippingAddress.DoesNotExist:
        return None


def represent_address(address: ShippingAddress) -> dict[str, str]:
    """Return an address as clients see it."""
    return {name: getattr(address, name) for name in PARTS}


def envelope(address: ShippingAddress | None) -> list[str]:
    """Return the lines of an address as they are written on a parcel."""
    if address is None:
        return []
    place = " ".join(part for part in (address.postal_code, address.city) if part)
    lines = (address.name, address.line1, address.line2, place, address.region, address.country)
    return [line for line in lines if line]
