"""Rows of one commit of a data set on the hub, from its cache where the hub cannot be reached."""

from __future__ import annotations

import sys
from pathlib import Path

from peftbench import hub
from peftbench.errors import DataProblem, MissingExtra, first_line
from peftbench.tasks._files import nonempty, scan
from peftbench.tasks._task import Row


def subset_rows(name: str, subset: str | None, split: str, commit: str) -> list[Row]:
    """The rows of a split as the repository itself defines it.

    Raises:
        DataProblem: they cannot be fetched or read, or there are none.
        MissingExtra: the library that reads them is not installed.
    """
    try:
        from datasets import disable_progress_bars, load_dataset_builder
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise MissingExtra("datasets", "hub") from None
    disable_progress_bars()
    with hub.hub_errors("dataset", name, commit):
        try:
            builder = load_dataset_builder(name, subset, revision=commit)
            if builder.hash != commit:
                # When the hub cannot be reached, the library takes what it has cached of any other commit.
                raise DataProblem(
                    f"Commit {commit} of {name} cannot be reached; the cache holds another one.",
                    "Try again, or use a local mirror: --data-root DIR",
                )
            builder.download_and_prepare()
            table = builder.as_dataset(split=split)
        except (ValueError, DatasetsError) as error:
            if isinstance(error, OSError):
                raise
            reason = first_line(error.__cause__ or error).rstrip(".")
            raise DataProblem(f"The data set {name} cannot be read: {reason}.", "Check subset and split.") from error
    where = f"{name}, split {split}"
    return nonempty(list(table), where)


def parquet_rows(name: str, pattern: str, commit: str) -> list[Row]:
    """The rows of all Parquet files of a commit whose paths match a pattern, file by file.

    Raises:
        DataProblem, MissingExtra: as `subset_rows` does.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise MissingExtra("huggingface_hub", "hub") from None
    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub.hub_errors("dataset", name, commit):
        # From a cache that was not filled to the end nothing is taken.
        folder = Path(snapshot_download(name, repo_type="dataset", revision=commit, allow_patterns=pattern))
    rows: list[Row] = [row for path in sorted(folder.glob(pattern)) for row in scan(path)]
    return nonempty(rows, f"{name}, {pattern}")
