"""What a method that is put around another takes from it."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from peftbench.methods._method import Base, Facts, Method


@dataclass(frozen=True)
class Wrapping(Method):
    """A method around another one: what it does not say itself is as there."""

    @property
    @abstractmethod
    def wrapped(self) -> Method:
        """The method inside."""

    @property
    def virtual_tokens(self) -> int:
        """The wrapped method's."""
        return self.wrapped.virtual_tokens

    @property
    def shots(self) -> int:
        """The wrapped method's."""
        return self.wrapped.shots

    @property
    def looks_first(self) -> bool:
        """Whether the wrapped method does."""
        return self.wrapped.looks_first

    def unfit(self, facts: Facts) -> str | None:
        """What the wrapped method says."""
        return self.wrapped.unfit(facts)

    def caution(self, facts: Facts) -> str | None:
        """What the wrapped method says."""
        return self.wrapped.caution(facts)

    def in_use(self) -> contextlib.AbstractContextManager[object]:
        """What the wrapped method needs."""
        return self.wrapped.in_use()

    def changes(self, base: Base) -> Iterable[str]:
        """What the wrapped method changes."""
        return self.wrapped.changes(base)

    def sizes(self, facts: Facts) -> Sequence[int]:
        """The wrapped method's."""
        return self.wrapped.sizes(facts)

    def site_count(self, facts: Facts) -> int | None:
        """The wrapped method's."""
        return self.wrapped.site_count(facts)

    def folded(self, base: Base) -> Iterable[str]:
        """What the wrapped method folds into."""
        return self.wrapped.folded(base)
