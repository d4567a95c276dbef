"""Counts skipped tests by reason, and fails on a reason that is not listed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def reasons(report: Path) -> Counter[str]:
    """The reasons in a JUnit report, and how many tests each one skipped."""
    root = ET.parse(report).getroot()  # noqa: S314 - written by our own test run
    return Counter(element.get("message", "") for element in root.iter("skipped"))


def main() -> int:
    """Print every reason with its count; 1 when one is not listed."""
    report, listed = map(Path, sys.argv[1:3])
    allowed = {line.strip() for line in listed.read_text().splitlines() if line.strip() and not line.startswith("#")}
    found = reasons(report)
    for reason, count in found.most_common():
        print(f"{count:4d} skipped: {reason}{'' if reason in allowed else '   <- not listed'}")  # noqa: T201
    print(f"{sum(found.values())} skipped in all")  # noqa: T201
    return 0 if set(found) <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
