"""The style check sees what people read, and nothing else."""

import pytest

from tests import prose

PAIRS = {  # What stood here once, and what a technical writer wrote instead.
    "Whatever you restart, restart it.": "Restarting any process is safe.",
    "what ails it, and what to do?": "Diagnostics",
    "Less than nothing.": "In our benchmark it is faster than plain Celery when tasks batch.",
    "batches that form themselves": "automatic batching",
    "There is no such user, or the password is another.": "Wrong username or password.",
    "This is no birth date of a customer.": "Enter a valid date of birth.",
    "the body is too large, packed, or no JSON: mend the request": "The body is too large, compressed, or not JSON.",
    "take them as a shape, and measure yours": "Treat these as rough; measure your own.",
    "Whom one blocks": "List blocked users",
    "takes nothing while messages wait, for so long": "has taken no messages for 30 seconds",
    "to who wants it by mail": "to users who chose e-mail",
    "It is reversed exactly if its order is cancelled.": "It is reversed if and only if its order is cancelled.",
    "show what became of each task": "show the outcome of each task",
    "12 tasks went unheard of": "12 tasks were not acknowledged in time",
}


@pytest.mark.parametrize(("before", "after"), PAIRS.items())
def test_a_phrase_of_the_list_is_found_and_its_better_is_not(before, after):
    assert prose.complaints("page.md", before)
    assert prose.complaints("page.md", after) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "Run `mend`.\n\n```\nmend anew\n```\n\n[so](https://anew.example/)\n"),
        ("page.html", "<style>mend {}</style>\n<p class='mend'>{{ mend }} {% mend %}</p>"),
        ("code.py", '"""See ``mend``."""\nmend = anew(heed)\n'),
    ],
)
def test_code_is_not_prose(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert prose.complaints(name, prose.prose_of(tmp_path / name)) == []


def test_strings_and_comments_of_code_are_read_at_their_lines(tmp_path):
    (tmp_path / "code.py").write_text('x = (\n    "It is heeded so "\n    f"long, {x}."\n)\n\n# Mend it.\n')
    assert [line.split("write")[0] for line in prose.complaints("code.py", prose.prose_of(tmp_path / "code.py"))] == [
        "code.py:2: 'heeded': ",
        "code.py:2: 'so long': ",
        "code.py:6: 'Mend': ",
    ]
