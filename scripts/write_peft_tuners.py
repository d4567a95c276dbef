"""Writes docs/reference/peft-tuners.md: what the tuners of the `peft` library do when they are used alone.

Every figure of the page is what a script of a dozen or two lines prints, made from one template, which needs torch,
transformers and peft alone. The scripts that show a fault stand on the page; a test runs them again.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from peft import PeftType

from peftbench import registry
from peftbench.errors import first_line
from peftbench.methods._peft import PeftMethod
from peftbench.methods._probed import libraries
from peftbench.report._format import listed

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "peft-tuners.md"

Question = Literal["identity", "causal", "padding", "positions", "rows", "unload", "unmerge"]
# What is above it is not rounding: of logits, which go up to five, and of weights, below one. In double precision, and
# in single where a tuner takes no other. A model in double computes the angles of positions in single all the same.
TOLERANCE, SINGLE_TOLERANCE = 1e-5, 1e-4
MERGE_TOLERANCE, SINGLE_MERGE_TOLERANCE = 1e-12, 1e-5

# Layers of the tiny Llama that most tuners are put into.
_LAYERS = 'target_modules=["q_proj", "v_proj"]'
# How each tuner is configured: the library's defaults, and sizes that fit 32 features.
CONFIGS: Mapping[str, str] = {
    "PROMPT_TUNING": "PromptTuningConfig(num_virtual_tokens=4",
    "MULTITASK_PROMPT_TUNING": "MultitaskPromptTuningConfig(num_virtual_tokens=4, num_tasks=1",
    "P_TUNING": "PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=32",
    "PREFIX_TUNING": "PrefixTuningConfig(num_virtual_tokens=4",
    "LORA": f"LoraConfig({_LAYERS}",
    "ADALORA": f"AdaLoraConfig(total_step=100, {_LAYERS}",
    "ADAMSS": f"AdamssConfig(r=8, num_subspaces=2, {_LAYERS}",
    "BOFT": f"BOFTConfig(boft_block_size=4, {_LAYERS}",
    "ADAPTION_PROMPT": "AdaptionPromptConfig(adapter_len=4, adapter_layers=2",
    "IA3": "IA3Config(init_ia3_weights=True",
    "BEFT": 'BeftConfig(target_modules=["v_proj"]',
    "LILY": f"LilyConfig(r=4, {_LAYERS}",
    "LOHA": f"LoHaConfig({_LAYERS}",
    "LOKR": f"LoKrConfig({_LAYERS}",
    "OFT": f"OFTConfig(oft_block_size=4, {_LAYERS}",
    "POLY": f"PolyConfig(r=4, n_tasks=1, {_LAYERS}",
    "LN_TUNING": 'LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]',
    "VERA": f"VeraConfig(r=8, {_LAYERS}",
    "FROD": f"FrodConfig({_LAYERS}",
    "PVERA": f"PveraConfig(r=8, {_LAYERS}",
    "FOURIERFT": f"FourierFTConfig(n_frequency=50, {_LAYERS}",
    "GLORA": f"GloraConfig(r=4, {_LAYERS}",
    "HRA": f"HRAConfig({_LAYERS}",
    "VBLORA": f"VBLoRAConfig(num_vectors=16, vector_length=8, {_LAYERS}",
    "UNILORA": f"UniLoraConfig({_LAYERS}",
    "CPT": "CPTConfig(cpt_token_ids=[1, 2, 3, 4], cpt_tokens_type_mask=[1, 2, 3, 4]",
    "MISS": f"MissConfig(r=8, {_LAYERS}",
    "RANDLORA": f"RandLoraConfig(r=4, {_LAYERS}",
    "ROAD": f"RoadConfig(group_size=8, {_LAYERS}",
    "TRAINABLE_TOKENS": "TrainableTokensConfig(token_indices=list(range(32))",
    "HIRA": f"HiraConfig(r=8, {_LAYERS}",
    "SHIRA": f"ShiraConfig(r=4, {_LAYERS}",
    "C3A": f"C3AConfig(block_size=8, {_LAYERS}",
    "WAVEFT": f"WaveFTConfig(n_frequency=50, {_LAYERS}",
    "OSF": f"OSFConfig({_LAYERS}",
    "DELORA": f"DeloraConfig({_LAYERS}",
    "GRALORA": f"GraloraConfig(r=8, {_LAYERS}",
    "CARTRIDGE": "CartridgeConfig(num_virtual_tokens=4",
    "TINYLORA": f"TinyLoraConfig({_LAYERS}",
    "PSOFT": f"PsoftConfig(r=8, {_LAYERS}",
    "PEANUT": f"PeanutConfig(r=8, {_LAYERS}",
    "SHADOW": "ShadowConfig(r=4",
    "SUPERTUNING": f"SupertuningConfig(sparsity=0.9, {_LAYERS}",
    "DEFT": f"DeftConfig({_LAYERS}",
}
# What a call says besides, for a tuner that learns several tasks.
_TASKS = {"MULTITASK_PROMPT_TUNING", "POLY"}
# These refuse weights in double precision.
_SINGLE = {"FOURIERFT", "PSOFT"}
# These drop the positions that they are called with.
_IGNORING = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "CPT"}
# What cannot be tried like the others, and what is no member here.
UNTRIED = {"XLORA": "it mixes LoRA adapters that were trained before, and learns the mixture alone"}
NEEDS = {
    "CPT": "`cpt_token_ids`: labelled examples of a task as its prompt, and which of their tokens are which",
    "MULTITASK_PROMPT_TUNING": "`task_ids` in every call",
    "POLY": "`task_ids` in every call",
    "TRAINABLE_TOKENS": "`token_indices`: the tokens to train",
    "ADAPTION_PROMPT": "an architecture that it knows: Llama, Mistral and GPT-2; it has no `unload`",
    "ADALORA": "`total_step`, how long training will be, and a call after every step, which was not made here",
}
NO_MEMBER = {
    "XLORA": "trained adapters go into it, and a method of ours starts at the base",
}

BASE = """import peft, torch, transformers

torch.set_default_dtype(torch.{precision})
torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, initializer_range=0.2)
heads = dict(num_attention_heads=4, num_key_value_heads=2)
base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads)).eval()
ids = torch.randint(64, (1, 8))
"""
MODEL = """config = peft.{config}, task_type="CAUSAL_LM")
model = peft.get_peft_model(base, config).eval()
"""
TRAINING = """model.train()
optimizer = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=1e-2)
for _ in range(5):
    model(input_ids=ids, labels=ids{tasks}).loss.backward()
    optimizer.step(), optimizer.zero_grad()
model.eval()
"""
# Before the tuner is put on, and after it: what is compared.
_CALLS = """mask = torch.tensor([[0] * 4 + [1] * 8])
padded = dict(input_ids=ids.repeat(1, 2)[:, -12:], attention_mask=mask{positions})
plain = {{name: value[:, 4:] for name, value in padded.items()}}
one, two = (model(**each{tasks}).logits[:, -8:] for each in (plain, padded))
print((one - two).abs().max().item())
"""
# Before the tuner is put on, and after it: what is compared.
COMPARED: Mapping[Question, tuple[str, str]] = {
    "identity": (
        "before = base(input_ids=ids).logits.detach()\n",
        "print(float((model(input_ids=ids{tasks}).logits[:, -8:] - before).abs().max()))\n",
    ),
    "causal": (
        "",
        """other = torch.cat([ids[:, :-1], 63 - ids[:, -1:]], dim=1)  # another last token
one, two = (model(input_ids=each{tasks}).logits[:, -8:-1] for each in (ids, other))
print((one - two).abs().max().item())
""",
    ),
    "padding": ("", _CALLS.replace("{positions}", ", position_ids=(mask.cumsum(1) - 1).clamp(0)")),
    "positions": ("", _CALLS.replace("{positions}", "")),
    "rows": (
        "",
        """both = torch.cat([ids, ids.flip(1)])
alone, beside = model(input_ids=ids{tasks}).logits[0], model(input_ids=both{both}).logits[0]
print((alone - beside).abs().max().item())
""",
    ),
    "unload": (
        "before = base(input_ids=ids).logits.detach()\n",
        """base = model.unload() if hasattr(model, "unload") else base
print((base(input_ids=ids).logits - before).abs().max().item())
""",
    ),
    "unmerge": (
        "before = {{name: value.clone() for name, value in base.state_dict().items()}}\n",
        """model.merge_adapter()
model.unmerge_adapter()
after = model.unload().state_dict()
print(max(float((after[name] - value).abs().max()) for name, value in before.items()))
""",
    ),
}
# The heads of the table, and what each figure is.
COLUMNS: Mapping[Question, tuple[str, str]] = {
    "identity": ("start", "untrained: how far its logits are from the base's"),
    "causal": ("to come", "how far another last token moves the logits before it"),
    "padding": ("padding", "how far four padding tokens in front, masked and with `position_ids`, move the logits"),
    "positions": ("positions", "the same, where the call leaves `position_ids` to the library, as the base allows"),
    "rows": ("rows", "how far another row in the batch moves the logits of a row"),
    "unload": (
        "unload",
        "how far the base's logits are from before, after `unload` or, where there is none, as it is left",
    ),
    "unmerge": ("unmerge", "how far a weight of the base is from before, after merging, unmerging and unloading"),
}
FAULTS: Mapping[Question, str] = {
    "identity": "Not the base at the start",
    "causal": "Not causal",
    "padding": "Not invariant to padding",
    "positions": "Not invariant to padding where positions are left to the library",
    "rows": "Not independent of the other rows of a batch",
    "unload": "Not taken off again",
    "unmerge": "Not unmerged up to rounding",
}


class Found(NamedTuple):
    """What a script printed, or why it came to no end."""

    difference: float | None
    reason: str = ""


def script(tuner: str, question: Question) -> str:
    """The script that measures one thing of one tuner."""
    tasks = ", task_ids={}[:, 0] * 0" if tuner in _TASKS else ""
    before, after = COMPARED[question]
    training = "" if question == "identity" else TRAINING
    filled = (before + MODEL + training + after).format(
        config=CONFIGS[tuner], tasks=tasks.format("ids"), both=tasks.format("both")
    )
    return BASE.format(precision="float32" if tuner in _SINGLE else "float64") + filled


def run(text: str) -> Found:
    """Run a script as if it were pasted, and read what it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            exec(compile(text, "script", "exec"), {})  # noqa: S102 - it is ours
        except Exception as error:  # noqa: BLE001 - what the library raises is the finding
            return Found(None, f"{type(error).__name__}: {first_line(error)}")
        finally:
            torch.set_default_dtype(torch.float32)
    return Found(float(said.getvalue().splitlines()[-1]))


def is_fault(tuner: str, question: Question, found: Found) -> bool:
    """Whether a difference is more than rounding; the base has to be back to the last bit where nothing was merged."""
    single = tuner in _SINGLE
    limit = SINGLE_TOLERANCE if single else TOLERANCE
    if question == "unmerge":
        limit = SINGLE_MERGE_TOLERANCE if single else MERGE_TOLERANCE
    return found.difference is not None and not found.difference <= (0.0 if question == "unload" else limit)


Findings = Mapping[str, Mapping[Question, Found]]


def measured() -> Findings:
    """What every tuner of the installed library does."""
    return {
        name: {question: run(script(name, question)) for question in COMPARED} for name in tuners() if name in CONFIGS
    }


def tuners() -> list[str]:
    """All types of the installed library."""
    return sorted(kind.value for kind in PeftType)


# ---- the page ------------------------------------------------------------------------------------------------------

_HEAD = """# What the tuners of `peft` do alone

Written by `scripts/write_peft_tuners.py`, with {libraries}. Each of
the {count} tuner types of the library is put on a Llama of two blocks with grouped queries and random weights, by
`get_peft_model` and nothing else, and evaluated in `eval` mode and double precision ({single}
take single alone). Before anything but the start is looked at, it is trained for five steps.

A figure is what the script of its fault prints: the largest difference between two things that should be equal.
**Bold** is more than rounding: above {logits:g} of logits that go up to five ({single_logits:g} in single precision),
above {weights:g} of a weight ({single_weights:g}), and anything at all where an adapter is taken off that was never
merged. A model in double still computes the angles of positions in single, hence the figures of 5e-07. Unmerged to the
last bit is what has a 0 there; in single precision all others are off by rounding, and none stands out.

None of these is broken in every use, and a start elsewhere than at the base is how prompts are made. But who compares
methods has to know.
"""


def page(findings: Findings) -> str:
    """The whole page."""
    parts = [
        _HEAD.format(
            libraries=listed([f"{name} {version}" for name, version in libraries().items()]),
            count=len(tuners()),
            single=listed(sorted(_SINGLE)),
            logits=TOLERANCE,
            single_logits=SINGLE_TOLERANCE,
            weights=MERGE_TOLERANCE,
            single_weights=SINGLE_MERGE_TOLERANCE,
        ),
        *_legend(),
        *_table(findings),
        *_needs(),
        *_merging(findings),
        *_reproductions(findings),
    ]
    return "\n".join(parts)


def _legend() -> Iterator[str]:
    for head, means in COLUMNS.values():
        yield f"- *{head}*: {means}"
    yield ""


def _table(findings: Findings) -> Iterator[str]:
    yield f"| tuner | here | {' | '.join(head for head, _ in COLUMNS.values())} |"
    yield f"|---|---|{'--:|' * len(COLUMNS)}"
    for name in tuners():
        cells = [_cell(name, question, found) for question, found in findings.get(name, {}).items()]
        yield f"| {name} | {_here(name)} | {' | '.join(cells or ['–'] * len(COLUMNS))} |"
    yield ""


def _cell(tuner: str, question: Question, found: Found) -> str:
    if found.difference is None:
        return "–"
    text = (
        "0"
        if found.difference == 0
        else f"{found.difference:.1e}"
        if found.difference < 1e-3
        else f"{found.difference:.2g}"
    )
    return f"**{text}**" if is_fault(tuner, question, found) else text


def _here(tuner: str) -> str:
    """Our members that are made of it."""
    config = CONFIGS.get(tuner, "").partition("(")[0]
    return ", ".join(f"`{name}`" for name in _members() if _config_class(name) == config) or "none"


def _members() -> list[str]:
    return registry.shipped("methods")


def _config_class(member: str) -> str | None:
    cls = registry.load("methods", member).value
    return cls.config_class if issubclass(cls, PeftMethod) else None


def _needs() -> Iterator[str]:
    yield "## What some need\n"
    for name, reason in UNTRIED.items():
        yield f"- {name} is not tried: {reason}."
    for name, needed in NEEDS.items():
        yield f"- {name} needs {needed}."
    ignoring = listed(sorted(_IGNORING))
    yield f"- {ignoring} ignore `position_ids`, and warn of it."
    for name, reason in NO_MEMBER.items():
        yield f"- {name} is no method here: {reason}."
    yield ""


def _merging(findings: Findings) -> Iterator[str]:
    """Why there is no figure for unmerging."""
    yield "## Not merged or not unmerged\n"
    reasons: dict[str, list[str]] = {}
    for name, each in findings.items():
        if each["unmerge"].difference is None:
            said = each["unmerge"].reason.removeprefix("NotImplementedError: NotImplementedError")
            # The first part of what is raised says what cannot be done.
            part = said.partition(": ")[2].partition(": ")[0]
            short = re.sub(r"'\w+' object has no attribute", "there is no", part).strip()
            reasons.setdefault(short or "not implemented", []).append(name)
    for reason, names in reasons.items():
        yield f"- {', '.join(names)}: {reason.rstrip('.')}."
    yield ""


def _reproductions(findings: Findings) -> Iterator[str]:
    yield "## Every fault, to be pasted and run\n"
    for question, title in FAULTS.items():
        faulty = [name for name, each in findings.items() if is_fault(name, question, each[question])]
        if faulty:
            yield f"### {title}\n"
            yield from (_reproduction(name, question, findings[name][question]) for name in faulty)


def _reproduction(tuner: str, question: Question, found: Found) -> str:
    said = f"{tuner}: {found.difference:.3g}"
    return f"<details><summary>{said}</summary>\n\n```python measured\n{script(tuner, question)}```\n</details>\n"


if __name__ == "__main__":
    PAGE.write_text(page(measured()), encoding="utf-8")
