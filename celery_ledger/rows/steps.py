"""
The remaining steps of a chain, stored by reference.

The steps of a chain are written once, when it is called. From then on its rows, and the canvases within it, refer to
the chain and the number of steps left. Nothing carries the rest by value, because then the cost of a long chain would
grow with the square of its length.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Final, overload
from uuid import UUID

from kombu.utils.json import register_type

from celery_ledger.models import Step
from celery_ledger.rows import arguments, canvases
from celery_ledger.rows.calls import arguments_as_json
from celery_ledger.uuid7 import uuid7

#: The key by which JSON refers to what is kept here.
MARK: Final = "celery_ledger.steps"
#: One statement writes or reads at most this many steps.
PORTION: Final = 2_000

#: A chain, and a position in it.
Place = tuple[UUID, int]


class Rest(Sequence[Any]):
    """
    The remaining steps of a chain, in Celery's order: the last one is next.

    Its steps are read from the ledger on first access.
    """

    def __init__(self, parts: Iterable[Place]) -> None:
        #: Chains, and how many of the first steps of each are left. The last chain comes first.
        self.parts = tuple((chain, left) for chain, left in parts if left)

    @classmethod
    def read(cls, said: Iterable[tuple[str, int]]) -> "Rest":
        """Return the rest from the output of :meth:`as_list`."""
        return cls((UUID(chain), int(left)) for chain, left in said)

    def as_list(self) -> list[list[Any]]:
        """Return it as a JSON list."""
        return [[chain.hex, left] for chain, left in self.parts]

    @property
    def next(self) -> Place:
        """The key of the next step."""
        chain, left = self.parts[-1]
        return chain, left - 1

    @property
    def after_next(self) -> "Rest":
        """The rest after the next step."""
        return Rest((*self.parts[:-1], self.next))

    @cached_property
    def steps(self) -> list[Any]:
        """All remaining steps."""
        return [
            arguments.read(text)
            for chain, left in self.parts
            for text in Step.objects.filter(chain=chain, place__lt=left)
            .order_by("place")
            .values_list("signature", flat=True)
            .iterator(PORTION)
        ]

    def __len__(self) -> int:
        return sum(left for _, left in self.parts)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        return self.steps[place]

    def __add__(self, others: Sequence[Any]) -> "Rest":
        """Return a rest that starts with ``others``."""
        return Rest((*self.parts, *keep(others).parts))

    def __deepcopy__(self, memo: Any) -> "Rest":
        return self

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


register_type(Rest, MARK, Rest.as_list, Rest.read)


def keep(steps: Sequence[Any]) -> Rest:
    """
    Write the steps of a chain, the last one first, in the current transaction; keep existing ones.

    Raises:
        TypeError, ValueError: a step is not JSON, or too large.
    """
    if isinstance(steps, Rest):
        return steps
    chain, canvas = uuid7(), canvases.current()
    rows = (
        Step(
            chain=chain,
            place=place,
            signature=arguments_as_json(step.get("task", "a step"), step, what="signature"),
            canvas=canvas or chain,
        )
        for place, step in enumerate(steps)
    )
    Step.objects.bulk_create(rows, batch_size=PORTION)
    return Rest([(chain, len(steps))])


def read(places: Iterable[Place]) -> dict[Place, Any]:
    """Return the signatures under these keys."""
    return {place: arguments.read(text) for place, text in texts(places).items()}


def texts(places: Iterable[Place]) -> dict[Place, str]:
    """Return the signatures under these keys, as JSON."""
    wanted = list(places)
    found = {}
    for start in range(0, len(wanted), PORTION):
        rows = Step.objects.filter(pk__in=wanted[start : start + PORTION]).values_list("chain", "place", "signature")
        found.update({(chain, place): text for chain, place, text in rows})
    return found
