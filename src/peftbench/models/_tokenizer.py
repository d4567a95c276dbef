"""How a model is spoken to, without its weights: the tokenizer alone, for counting tokens."""

from __future__ import annotations

from peftbench.errors import MissingExtra
from peftbench.models._chat import Chat
from peftbench.models._facts import ModelFacts
from peftbench.models._reading import reading_errors


def chat_of(facts: ModelFacts) -> Chat:
    """The chat of a model, with its template when it has one; of a hub model only small files are fetched.

    Raises:
        MissingExtra: transformers is not installed.
        ModelProblem: the tokenizer or its chat template cannot be read.
    """
    try:
        from transformers import AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise MissingExtra("transformers", "train") from None
    # A prompt that is longer than the context is what is to be found out, not a fault.
    logging.set_verbosity_error()
    place, revision = (facts.name, facts.revision) if facts.folder is None else (str(facts.folder), None)
    with reading_errors(f"The tokenizer of {facts.name} cannot be read", facts):
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    with reading_errors(f"The chat template of {facts.name} cannot be used", facts):
        return Chat(tokenizer, "template")
