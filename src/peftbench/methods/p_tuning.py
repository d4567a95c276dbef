"""P-tuning: a prompt written by a small trained encoder (Liu et al., 2021, arXiv 2103.10385)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from peftbench.methods._method import Facts
from peftbench.methods._peft import EncodedPromptMethod


@dataclass(frozen=True)
class PTuning(EncodedPromptMethod):
    """Trained embeddings go through an encoder that ties them together, in front of the input; the paper's is a
    bidirectional LSTM with two linear layers behind it (section 3.2), `MLP` is three linear layers.

    The encoder is `encoder_hidden_size` wide, as wide as the model when that is absent. `encoder_num_layers` and
    `encoder_dropout` (between the layers, while training) are the LSTM's. What is saved is the prompt it wrote.
    """

    config_class: ClassVar[str] = "PromptEncoderConfig"
    learning_rate: ClassVar[float] = 1e-4
    size: ClassVar[str | None] = "encoder_hidden_size"

    encoder_reparameterization_type: Literal["LSTM", "MLP"] = "LSTM"
    encoder_hidden_size: int | None = None
    encoder_num_layers: int = 2
    encoder_dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("encoder_num_layers", "encoder_hidden_size"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 0 <= self.encoder_dropout < 1:
            raise ValueError("encoder_dropout must be at least 0 and below 1")

    def trainable_parameters(self, facts: Facts) -> int:
        """The embeddings and the encoder; each direction of the LSTM has four gates with two biases."""
        hidden, wide = facts.hidden_size, self.encoder_hidden_size or facts.hidden_size
        if self.encoder_reparameterization_type == "MLP":
            encoder = _linear(hidden, wide) + _linear(wide, wide) + _linear(wide, hidden)
        else:
            inputs = [hidden, *[2 * wide] * (self.encoder_num_layers - 1)]
            lstm = sum(2 * 4 * wide * (width + wide + 2) for width in inputs)
            encoder = lstm + _linear(2 * wide, 2 * wide) + _linear(2 * wide, hidden)
        return self.num_virtual_tokens * hidden + encoder


def _linear(inputs: int, outputs: int) -> int:
    """A linear layer with a bias."""
    return inputs * outputs + outputs


METHOD = PTuning
