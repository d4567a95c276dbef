"""The Hugging Face hub: from a name to an immutable commit, and its errors as sentences."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Literal

from peftbench.errors import DataProblem, MissingExtra, ModelProblem, first_line

Kind = Literal["dataset", "model"]


# A commit names itself, so what is cached can be used without asking anybody.
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(kind: Kind, name: str, revision: str | None) -> str:
    """The commit that a branch, tag or nothing (the default branch) means now.

    Raises:
        DataProblem, ModelProblem: the repository or revision does not exist, is gated, or cannot be reached.
        MissingExtra: the package huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import OfflineModeIsEnabled
    except ImportError:
        # Whoever names a commit is going to ask the same client for its files.
        raise MissingExtra("huggingface_hub", "hub") from None
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    api = HfApi()
    with hub_errors(kind, name, revision):
        try:
            info = _info(api, kind, name, revision)
        except OfflineModeIsEnabled as error:
            # A commit of it may well be cached; whether it is still the newest, the cache cannot tell.
            which = "the default branch" if revision is None else repr(revision)
            raise _problem(kind)(
                f"Which commit of the {kind} {name} is {which} now, only the hub knows, and the hub is off.",
                "Name the commit as `revision`, or use a mirror: peftbench fetch, then --data-root DIR",
            ) from error
        if info.gated:
            # Anybody may ask what a gated repository is; its files are for those with access.
            api.auth_check(name, repo_type=kind)
        return str(info.sha)


def _info(api: Any, kind: Kind, name: str, revision: str | None) -> Any:
    return api.dataset_info(name, revision=revision) if kind == "dataset" else api.model_info(name, revision=revision)


def is_off() -> bool:
    """Whether nobody may be asked: `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def check_reachable(kind: Kind, name: str, revision: str) -> None:
    """Ask for a revision, whatever is cached of it.

    Raises:
        DataProblem, ModelProblem: as `resolve` does.
    """
    from huggingface_hub import HfApi

    with hub_errors(kind, name, revision):
        _info(HfApi(), kind, name, revision)


def file_names(kind: Kind, name: str, commit: str) -> list[str]:
    """The paths of all files of a commit; where the hub is off, of those that are cached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    with hub_errors(kind, name, commit):
        try:
            return HfApi().list_repo_files(name, repo_type=kind, revision=commit)
        except OfflineModeIsEnabled:
            if cached := _cached_names(kind, name, commit):
                return cached
            raise


def _cached_names(kind: Kind, name: str, commit: str) -> list[str]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    return [
        file.file_path.relative_to(found.snapshot_path).as_posix()
        for repository in repositories
        if (repository.repo_type, repository.repo_id) == (kind, name)
        for found in repository.revisions
        if found.commit_hash == commit
        for file in found.files
    ]


def needs_script(name: str, commit: str) -> bool:
    """Whether a data set is made by a script in its repository, which newer clients do not run."""
    return f"{name.rpartition('/')[2]}.py" in file_names("dataset", name, commit)


@contextlib.contextmanager
def hub_errors(kind: Kind, name: str, revision: str | None) -> Iterator[None]:
    """What the hub's client raises, as one sentence with a remedy."""
    from huggingface_hub import errors

    problem = _problem(kind)
    at = f" at revision {revision!r}" if revision else ""
    # OSError, and the base error of the HTTP library in use, which differs between versions of the client.
    unreachable = tuple(base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
    try:
        yield
    except errors.GatedRepoError as error:
        raise problem(f"The {kind} {name} is gated.", "Ask for access on its page and set HF_TOKEN.") from error
    except errors.RevisionNotFoundError as error:
        raise problem(
            f"The {kind} {name} has no revision {revision!r}.", "Name a branch, tag or commit of it."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise problem(f"There is no {kind} {name} on the hub.", _elsewhere(kind)) from error
    except errors.HFValidationError as error:
        raise problem(f"{name!r} is not the id of a {kind}.", f"Write it as owner/name. {_elsewhere(kind)}") from error
    except unreachable as error:
        # That nothing is cached is what the client says last; why it could not ask the hub stands behind that.
        said = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
        # `datasets` tells of a hub that is off in words of its own.
        if (
            said is None
            or isinstance(said, errors.OfflineModeIsEnabled)
            or (isinstance(said, ConnectionError) and is_off())
        ):
            raise problem(
                f"The {kind} {name}{at} is not in the cache, and the hub is off.", _elsewhere(kind)
            ) from error
        reason = first_line(said).rstrip(".")
        raise problem(f"The {kind} {name}{at} cannot be fetched: {reason}.", _elsewhere(kind)) from error


def _problem(kind: Kind) -> type[DataProblem | ModelProblem]:
    return DataProblem if kind == "dataset" else ModelProblem


def _elsewhere(kind: Kind) -> str:
    if kind == "dataset":
        return "Go where the hub can be reached, or take rows that were fetched there: --data-root DIR"
    return "Go where the hub can be reached, or name a local folder with the model."
