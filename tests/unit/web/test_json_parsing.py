"""The JSON parser takes what it should; what it refuses is in tests/integration/web/test_problems.py."""

import io
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from web.parsing import MAX_DEPTH, StrictJSONParser


def parse(text):
    return StrictJSONParser().parse(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


@given(values)
def test_what_is_json_comes_out_as_it_went_in(value):
    assert parse(json.dumps(value)) == value


@pytest.mark.fault("F63")
@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_a_value_or_an_error_of_the_client(body):
    with suppress(ParseError):  # A 400; anything else would be a 500.
        parse(body)


@pytest.mark.fault("F63")
def test_32_deep_is_read_and_33_is_not():
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ParseError):
        parse("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_the_errors_say_what_is_wrong():
    with pytest.raises(ParseError, match="NaN"):
        parse('{"a": NaN}')
    with pytest.raises(ParseError, match="line 1"):
        parse("{")
    with pytest.raises(ParseError, match="UTF-8"):
        parse(b"\xff")
