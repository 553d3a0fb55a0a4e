"""What is wrong with a dataset: collected, counted and shown together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the user should know.

    Attributes:
        kind: a few words, the same for all of the kind.
        where: file, or file:line.
        message: what it is and what was done about it.
        is_fatal: no dataset is written because of it.
    """

    kind: str
    where: str
    message: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """Returns how many problems there are of each kind, most first."""
    return dict(Counter(problem.kind for problem in problems).most_common())
