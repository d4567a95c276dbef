"""A word problem in two parts: the story may be cut when a context is short, what is asked may not."""

import re

# Not the dot of a title, of an initial or of an abbreviation that a name or a number follows.
_SENTENCE = re.compile(r"(?<!\b[A-Z])(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)[.?!][\"'”]?\s+")


def apart(problem: str) -> tuple[str, str]:
    """What stands before the last question, and the question with all that follows it; without one, the last sentence.

    A problem of one sentence has no story. Where it is doubtful whether a sentence ends, the question is longer.
    """
    text = problem.strip()
    mark = text.rfind("?")
    before = text if mark < 0 else text[:mark]
    start = max((found.end() for found in _SENTENCE.finditer(before)), default=0)
    return text[:start].rstrip(), text[start:]
