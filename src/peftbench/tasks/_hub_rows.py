"""Rows of one commit of a data set on the hub, from its cache where the hub cannot be reached.

Values become those that JSON has, so that a mirror holds the rows that the hub gives.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from peftbench import hub
from peftbench.errors import DataProblem, MissingExtra, first_line
from peftbench.tasks._files import nonempty, plain, scan
from peftbench.tasks._task import Row

_MIRROR = "Use a local mirror: --data-root DIR"
# The subset of a data set that names none.
_DEFAULT = "default"


def subset_rows(name: str, subset: str | None, split: str, commit: str) -> list[Row]:
    """The rows of a split as the repository itself defines it.

    Raises:
        DataProblem: they cannot be fetched or read, or hold what JSON cannot, or there are none.
        MissingExtra: the library that reads them is not installed.
    """
    try:
        from datasets import disable_progress_bars
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise MissingExtra("datasets", "hub") from None
    disable_progress_bars()
    with hub.hub_errors("dataset", name, commit):
        try:
            builder = _builder(name, subset, commit)
            builder.download_and_prepare()
            table = builder.as_dataset(split=split)
        except (ValueError, RuntimeError, DatasetsError) as error:
            if isinstance(error, OSError):
                raise
            reason = first_line(error.__cause__ or error).rstrip(".")
            raise DataProblem(f"The data set {name} cannot be read: {reason}.", "Check subset and split.") from error
    where = f"{name}, split {split}"
    return nonempty(list(_as_json(map(plain, table), where)), where)


def _builder(name: str, subset: str | None, commit: str) -> Any:
    """What the library makes rows with. Where the hub cannot be reached, it takes what it cached last.

    That may be of any commit, and of any subset when none is named, so that here one always is when the hub is off.
    """
    from datasets import load_dataset_builder
    from datasets.packaged_modules.cache.cache import Cache

    asked = subset or (_default_subset(name, commit) if hub.is_off() else None)
    try:
        builder = load_dataset_builder(name, asked, revision=commit)
    except RuntimeError:
        if hub.needs_script(name, commit):
            raise DataProblem(f"The data set {name} needs a loading script.", _MIRROR) from None
        raise
    except ValueError as error:
        if hub.is_off():
            raise _not_cached(f"{name}/{asked}", commit, "is off") from error
        # Were it the cache that lacks something, then for want of the hub.
        hub.check_reachable("dataset", name, commit)
        raise
    if builder.hash != commit:
        raise DataProblem(
            f"Commit {commit} of {name} cannot be reached; the cache holds another one.",
            "Try again, or use a local mirror: --data-root DIR",
        )
    if isinstance(builder, Cache):
        wanted = subset or _default_subset(name, commit)
        if builder.config.name != wanted:
            raise _not_cached(f"{name}/{wanted}", commit, "cannot be reached")
    return builder


def _default_subset(name: str, commit: str) -> str:
    """The subset that is meant where none is named, by the card in the cache, read as the library reads it."""
    from huggingface_hub import metadata_load, try_to_load_from_cache

    path = try_to_load_from_cache(name, "README.md", repo_type="dataset", revision=commit)
    card = (metadata_load(path) if isinstance(path, str) else None) or {}
    configs, infos = card.get("configs") or [], card.get("dataset_info") or []
    infos = infos if isinstance(infos, list) else [infos]
    marked = [one for one in configs if one.get("default") or one.get("config_name") == _DEFAULT or len(configs) == 1]
    told = marked or (infos if len(infos) == 1 else [])
    return str(told[0].get("config_name") or _DEFAULT) if told else _DEFAULT


def _not_cached(name: str, commit: str, hub_state: str) -> DataProblem:
    return DataProblem(
        f"The dataset {name} at revision {commit!r} is not in the cache, and the hub {hub_state}.", _MIRROR
    )


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
    rows = (row for path in sorted(folder.glob(pattern)) for row in scan(path))
    return nonempty(list(_as_json(rows, name)), f"{name}, {pattern}")


def _as_json(rows: Iterable[Row], where: str) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        for column, value in row.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError):
                raise DataProblem(
                    f"{where}, row {number} has in the column {column!r} what JSON cannot hold.",
                    "Use a local mirror that leaves the column out: --data-root DIR",
                ) from None
        yield row
