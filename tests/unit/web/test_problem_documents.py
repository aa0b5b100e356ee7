"""Problem documents after RFC 9457, their pointers after RFC 6901."""

import pytest
from rest_framework.exceptions import ErrorDetail, Throttled

from web.problems import answer_problem, field_errors, problem


@pytest.mark.parametrize(
    ("detail", "errors"),
    [
        ({"a": ["x"]}, [("/a", "x")]),
        ({"a": ["x", "y"]}, [("/a", "x"), ("/a", "y")]),
        ({"a": {"b": ["x"]}}, [("/a/b", "x")]),
        ({"lines": [{}, {"n": ["x"]}]}, [("/lines/1/n", "x")]),
        ({"non_field_errors": ["x"]}, [("", "x")]),
        (["x"], [("", "x")]),
        ({"a/b~c": ["x"]}, [("/a~1b~0c", "x")]),
        ({"a": ErrorDetail("x")}, [("/a", "x")]),
        ({}, []),
    ],
)
def test_field_errors_are_flat_and_point_to_their_place(detail, errors):
    assert [(error["pointer"], error["detail"]) for error in field_errors(detail)] == errors


def test_a_plain_problem_has_no_type_of_its_own():
    assert problem(404) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Nothing matches the given URI",
    }


def test_a_problem_that_a_client_may_act_on_has_a_name():
    assert problem(409, "why", name="out-of-stock", errors=[{"pointer": "", "detail": "x"}]) == {
        "type": "urn:shopwire:problem:out-of-stock",
        "title": "Out of stock",
        "status": 409,
        "detail": "why",
        "errors": [{"pointer": "", "detail": "x"}],
    }


@pytest.mark.parametrize(("wait", "told"), [(0, "1"), (0.2, "1"), (1.5, "2"), (60, "60")])
def test_a_wait_is_told_in_whole_seconds_and_never_none(wait, told):
    assert answer_problem(Throttled(wait), {}).headers["Retry-After"] == told


def test_a_bug_of_ours_is_not_dressed_up():
    assert answer_problem(RuntimeError(), {}) is None
