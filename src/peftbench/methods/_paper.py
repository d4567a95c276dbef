"""The paper of a method, read from what its file says first: `(Hu et al., 2022, arXiv 2106.09685)`."""

from __future__ import annotations

import re

from peftbench.spec import Value

_AUTHORS = re.compile(r"\((?:[^():]+: )?([^\W\d_][^():,]*), ((?:19|20)\d\d)(?:, (?!arXiv)([^():,]+))?")
_PLACES = {
    "arXiv": (re.compile(r"\barXiv (\d{4}\.\d{5})"), "https://arxiv.org/abs/"),
    "OpenReview": (re.compile(r"\bopenreview (\w+)"), "https://openreview.net/forum?id="),
    "doi": (re.compile(r"\bdoi (10\.\S+\w)"), "https://doi.org/"),
}


class Paper(Value):
    """Who described a method, when and where; what the file of the method does not say is None."""

    authors: str | None
    year: int | None
    venue: str | None
    place: str | None
    link: str | None

    @property
    def short(self) -> str:
        """In one line: `Hu et al., 2022, arXiv 2106.09685`."""
        return ", ".join(str(part) for part in (self.authors, self.year, self.venue, self.place) if part is not None)


def paper(text: str) -> Paper | None:
    """The first paper that a docstring names, or None. An id of arXiv begins with year and month."""
    authors = _AUTHORS.search(text)
    places = [
        (match.start(), name, match[1], url) for name, (form, url) in _PLACES.items() if (match := form.search(text))
    ]
    _, name, number, url = min(places, default=(0, "", "", ""))
    if authors is None and not places:
        return None
    early = 2000 + int(number[:2]) if name == "arXiv" else None
    return Paper(
        authors=authors[1] if authors else None,
        year=int(authors[2]) if authors else early,
        venue=authors[3] if authors else None,
        place=f"{name} {number}" if name else None,
        link=url + number if name else None,
    )
