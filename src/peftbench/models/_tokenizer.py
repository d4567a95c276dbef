"""How a model is spoken to, without its weights: the tokenizer alone, for counting tokens."""

from __future__ import annotations

from peftbench import hub
from peftbench.errors import MissingExtra, ModelProblem
from peftbench.models._chat import Chat
from peftbench.models._facts import ModelFacts


def chat_of(facts: ModelFacts) -> Chat:
    """The chat of a model, with its template when it has one; of a hub model only small files are fetched.

    Raises:
        MissingExtra: transformers is not installed.
        ModelProblem: the tokenizer cannot be read.
    """
    try:
        from transformers import AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    # A prompt that is longer than the context is what is to be found out, not a fault.
    logging.set_verbosity_error()
    place, revision = (facts.name, facts.revision) if facts.folder is None else (str(facts.folder), None)
    with hub.hub_errors("model", facts.name, revision):
        try:
            return Chat(AutoTokenizer.from_pretrained(place, revision=revision), "template")
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelProblem(
                f"The tokenizer of {facts.name} cannot be read: {str(error).splitlines()[0]}", "Check its files."
            ) from error
