"""One file of one's own, of which a share is held out to be evaluated on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peftbench.errors import DataProblem
from peftbench.tasks._files import read_rows
from peftbench.tasks._task import Described, Row, Source, Split, refusal


@dataclass(frozen=True)
class HeldOut(Source):
    """Which rows are held out is decided by `together`, a text of a row, and by nothing else.

    So rows with equal text stay on one side, the sides are the same for everybody, and a file that grows moves no row
    from one side to the other. The share is met about as well as by the flip of a coin for each text.
    """

    file: Path
    share: float
    together: Callable[[Row], str] = field(repr=False)
    id: str | None = None

    def described(self) -> Described:
        """The file, and about how much of it either side is."""
        percent = 100 * self.share
        return Described(
            str(self.file), f"about {100 - percent:g} % of it", f"the other {percent:g} %, told by its text"
        )

    def identity(self, data_root: str | None) -> str:
        """`files:<hash>` of the content, wherever the file lies, and the share."""
        del data_root
        try:
            content = hashlib.sha256(self.file.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DataProblem(
                f"{self.file} cannot be read: {error.strerror}.", "Check the task that names it."
            ) from error
        return f"files:{content} test={self.share!r}"

    def rows(self, split: Split, data_root: str | None, identity: str) -> list[Row]:
        """All rows of a side, in the order of the file."""
        if self.identity(data_root) != identity:
            raise DataProblem(f"{self.file} is not what the run was planned with.", "Plan again: peftbench run")
        rows = read_rows(self.file, self.id)
        found: list[Row] = [row for row in rows if self._is_held_out(row, row.place) == (split == "test")]
        if not found:
            side = "held out" if split == "test" else "left to train on"
            raise DataProblem(
                f"With a share of {self.share}, none of the {len(rows)} rows of {self.file} is {side}.",
                "Choose another share, or name a file of test rows.",
            )
        return found

    def _is_held_out(self, row: Row, place: str) -> bool:
        try:
            text = self.together(row)
        except (KeyError, TypeError) as error:
            raise refusal(error, row, place) from None
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < self.share * 2**64
