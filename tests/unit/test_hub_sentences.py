"""What the hub's clients raise, as sentences; the clients themselves are tried against a server in `e2e`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from huggingface_hub import errors

from peftbench import hub
from peftbench.errors import DataProblem, ModelProblem, UsageError
from peftbench.hub import Kind
from peftbench.tasks._source import HubDataset


def answer(kind: type[errors.HfHubHTTPError], text: str = "404 Client Error.\n\nMore.") -> errors.HfHubHTTPError:
    """An error as the client makes it, without the answer of a server."""
    error = kind.__new__(kind)
    error.args = (text,)
    return error


def because(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


SENTENCES: list[tuple[Exception, str]] = [
    (answer(errors.GatedRepoError), "The {kind} o/n is gated."),
    (answer(errors.RevisionNotFoundError), "The {kind} o/n has no revision 'v1'."),
    (answer(errors.RepositoryNotFoundError), "There is no {kind} o/n on the hub."),
    (errors.OfflineModeIsEnabled("x"), "The {kind} o/n at revision 'v1' is not in the cache, and the hub is off."),
    (errors.LocalEntryNotFoundError("x"), "The {kind} o/n at revision 'v1' is not in the cache, and the hub is off."),
    (
        because(errors.LocalEntryNotFoundError("Nothing is cached."), answer(errors.HfHubHTTPError, "500 Error.")),
        "The {kind} o/n at revision 'v1' cannot be fetched: 500 Error.",
    ),
    (
        because(errors.LocalEntryNotFoundError("Nothing is cached."), errors.OfflineModeIsEnabled("x")),
        "The {kind} o/n at revision 'v1' is not in the cache, and the hub is off.",
    ),
    (errors.HFValidationError("x"), "'o/n' is not the id of a {kind}."),
    (answer(errors.HfHubHTTPError), "The {kind} o/n at revision 'v1' cannot be fetched: 404 Client Error."),
    (OSError("no route"), "The {kind} o/n at revision 'v1' cannot be fetched: no route."),
    (TimeoutError(), "The {kind} o/n at revision 'v1' cannot be fetched: TimeoutError."),
    (
        errors.HfHubHTTPError.__bases__[0]("[Errno 111] refused"),
        "The {kind} o/n at revision 'v1' cannot be fetched: [Errno 111] refused.",
    ),
]


@pytest.mark.parametrize(("raised", "sentence"), SENTENCES, ids=lambda item: type(item).__name__)
@pytest.mark.parametrize(("kind", "problem"), [("dataset", DataProblem), ("model", ModelProblem)])
def test_every_error_is_a_sentence_and_a_fix(
    kind: Kind, problem: type[UsageError], raised: Exception, sentence: str
) -> None:
    with pytest.raises(problem) as caught, hub.hub_errors(kind, "o/n", "v1"):
        raise raised
    assert caught.value.message == sentence.format(kind=kind)
    assert caught.value.fix
    assert caught.value.__cause__ is raised


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), hub.hub_errors("model", "o/n", None):
        raise ZeroDivisionError


@pytest.mark.parametrize("off", [True, False])
def test_datasets_tells_of_a_hub_that_is_off_in_words_of_its_own(*, off: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", off)
    with pytest.raises(DataProblem) as caught, hub.hub_errors("dataset", "o/n", "v1"):
        raise ConnectionError("Couldn't reach 'o/n' on the Hub (OfflineModeIsEnabled)")
    assert ("is not in the cache, and the hub is off" in caught.value.message) == off
    # What is wrong with the disk is not for want of the hub.
    with pytest.raises(DataProblem, match="cannot be fetched: no room"), hub.hub_errors("dataset", "o/n", "v1"):
        raise OSError("no room")


class _Api:
    """A client with one repository of each kind; `asked` notes the questions."""

    def __init__(self) -> None:
        self.gated: Any = False
        self.asked: list[tuple[Any, ...]] = []

    def dataset_info(self, name: str, revision: str | None) -> Any:
        self.asked.append(("dataset", name, revision))
        return SimpleNamespace(sha="d" * 40, gated=self.gated)

    def model_info(self, name: str, revision: str | None) -> Any:
        self.asked.append(("model", name, revision))
        return SimpleNamespace(sha="e" * 40, gated=self.gated)

    def auth_check(self, name: str, repo_type: str) -> None:
        self.asked.append(("access", name, repo_type))
        raise answer(errors.GatedRepoError)

    def list_repo_files(self, name: str, repo_type: str, revision: str) -> list[str]:
        return [f"{repo_type} {name} {revision}"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> _Api:
    client = _Api()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
    return client


def test_resolving_asks_for_the_commit(api: _Api) -> None:
    assert hub.resolve("dataset", "o/n", None) == "d" * 40
    assert hub.resolve("model", "o/n", "v1") == "e" * 40
    assert api.asked == [("dataset", "o/n", None), ("model", "o/n", "v1")]
    assert hub.file_names("model", "o/n", "c") == ["model o/n c"]


def test_access_to_a_gated_repository_is_checked_when_planning(api: _Api) -> None:
    api.gated = "manual"
    with pytest.raises(ModelProblem, match="is gated"):
        hub.resolve("model", "o/n", None)
    assert api.asked[-1] == ("access", "o/n", "model")


@pytest.mark.parametrize(("revision", "named"), [(None, "the default branch"), ("v1", "'v1'")])
@pytest.mark.parametrize(("kind", "problem"), [("dataset", DataProblem), ("model", ModelProblem)])
def test_what_a_branch_means_only_the_hub_knows(
    kind: Kind, problem: type[UsageError], revision: str | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache may well have a commit of it, so that nothing is said of that."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(problem) as caught:
        hub.resolve(kind, "o/n", revision)
    assert caught.value.message == (
        f"Which commit of the {kind} o/n is {named} now, only the hub knows, and the hub is off."
    )
    assert "Name the commit" in caught.value.fix
    assert "peftbench fetch" in caught.value.fix


class _Builder:
    """What `datasets` hands out for a name: a builder of the commit it found."""

    def __init__(self) -> None:
        self.hash = "c0ffee"
        self.rows: list[dict[str, Any]] = [{"a": 1}]

    def download_and_prepare(self) -> None:
        pass

    def as_dataset(self, split: str) -> list[dict[str, Any]]:
        if split == "typo":
            raise ValueError('Unknown split "typo". Should be one of these.')
        return self.rows


def load(monkeypatch: pytest.MonkeyPatch, builder: Any, split: str = "train") -> Any:
    def made(repository: str, name: str | None, revision: str) -> Any:
        if isinstance(builder, Exception):
            raise builder
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", made)
    return HubDataset("o/n", None, mirror="", train=split).rows("train", None, "hub:o/n/default@c0ffee")


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, _Builder()) == [{"a": 1}]


def test_rows_of_another_commit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = _Builder()
    builder.hash = "another"
    with pytest.raises(DataProblem, match="Commit c0ffee of o/n cannot be reached; the cache holds another one"):
        load(monkeypatch, builder)


def test_no_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = _Builder()
    builder.rows = []
    with pytest.raises(DataProblem, match="o/n, split train has no rows"):
        load(monkeypatch, builder)


@pytest.mark.parametrize(
    ("raised", "split", "words"),
    [
        (None, "typo", 'Unknown split "typo". Should be one of these. Check'),
        (ValueError("BuilderConfig 'x' not found."), "train", "BuilderConfig 'x' not found. Check"),
        (because(ValueError("x"), AssertionError()), "train", "cannot be read: AssertionError. Check"),
        (ValueError(), "train", "cannot be read: ValueError. Check"),
        (RuntimeError("\nTwo lines.\n"), "train", "cannot be read: Two lines. Check"),
        (datasets.exceptions.DatasetGenerationError("An error occurred"), "train", "An error occurred. Check"),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset is gated."),
            "train",
            "cannot be fetched: Dataset is gated. Go where",
        ),
        (FileNotFoundError("no file"), "train", "cannot be fetched: no file. Go where"),
    ],
)
def test_a_data_set_that_cannot_be_read(
    raised: Exception | None, split: str, words: str, monkeypatch: pytest.MonkeyPatch, api: _Api
) -> None:
    with pytest.raises(DataProblem) as caught:
        load(monkeypatch, raised or _Builder(), split)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("card", "subset"),
    [
        (None, "default"),
        ("Words alone.", "default"),
        ("---\nlicense: mit\n---\n", "default"),
        ("---\nconfigs:\n- {config_name: a}\n- {config_name: b, default: true}\n---\n", "b"),
        ("---\nconfigs:\n- {config_name: a}\n- {config_name: default}\n---\n", "default"),
        ("---\nconfigs:\n- {config_name: a}\n---\n", "a"),
        ("---\nconfigs:\n- {config_name: a}\n- {config_name: b}\n---\n", "default"),
        ("---\ndataset_info:\n  features: []\n---\n", "default"),
        ("---\ndataset_info:\n  config_name: a\n  features: []\n---\n", "a"),
        ("---\ndataset_info:\n- {config_name: a}\n- {config_name: b}\n---\n", "default"),
    ],
)
def test_the_default_subset_is_told_by_the_card_in_the_cache(
    card: str | None, subset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text(card or "", encoding="utf-8")
    found = None if card is None else str(tmp_path / "README.md")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: found)
    asked: list[str | None] = []

    def made(repository: str, name: str | None, revision: str) -> Any:
        asked.append(name)
        return _Builder()

    monkeypatch.setattr(datasets, "load_dataset_builder", made)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    source = HubDataset("o/n", None, mirror="")
    assert source.rows("train", None, "hub:o/n/default@c0ffee") == [{"a": 1}]
    # While the hub can be asked, the library finds out by itself.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    source.rows("train", None, "hub:o/n/default@c0ffee")
    assert asked == [subset, None]
