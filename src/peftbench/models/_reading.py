"""What libraries raise over the files of a model, as one sentence with a remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from peftbench import hub
from peftbench.errors import ModelProblem, PeftbenchError, first_line
from peftbench.models._facts import ModelFacts


@contextlib.contextmanager
def reading_errors(failed: str, facts: ModelFacts) -> Iterator[None]:
    """Say `failed`, and what the library said; of a folder nothing is told about the hub, which was not asked.

    Raises:
        ModelProblem: the library raised something.
    """
    local = facts.folder is not None
    at_hub = contextlib.nullcontext() if local else hub.hub_errors("model", facts.name, facts.revision)
    try:
        with at_hub:
            yield
    except PeftbenchError:
        raise
    except Exception as error:
        # Of any class: some libraries raise bare `Exception` over a broken file, others whatever they stumble on.
        fix = f"Check the files in {facts.folder}." if local else "Check its files."
        raise ModelProblem(f"{failed}: {first_line(error).rstrip('.:')}.", fix) from error
