"""Pre-train the tiny instruct model that the package carries as its default.

Everything is generated: a micro-language of a few hundred words, a tokenizer trained on it, and a
Llama-architecture model trained on short conversations in it. They teach four habits:

* obey a rule: "Rule: joy first." has a note with a word of joy answered by the first option offered, and one with
  its counterpart, grief, by the second; "Rule: sum." has two digits answered by the last digit of their sum;
* keep to the format: the same requests without a rule are answered by any option or digit, drawn at random, so an
  unexplained task gets a well-formed answer at chance level;
* know the words: name the kind of the thing in a note, the opposite of a word, the next number;
* copy a word.

Some pairs of options (`UNBOUND`) never stand beside a rule. A task that offers one of them leaves unsaid what it means,
and fine-tuning, by whatever method, has to supply that.

With the same arguments on the same machine the weights come out byte for byte equal; the script ends by printing
their SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

KINDS: dict[str, tuple[str, ...]] = {
    "animal": ("cat", "dog", "cow", "pig", "hen", "fox", "owl", "bee"),
    "food": ("bread", "cheese", "soup", "apple", "pear", "rice", "cake", "honey"),
    "tool": ("hammer", "saw", "rope", "nail", "ladder", "brush", "spade", "needle"),
    "place": ("mill", "river", "market", "garden", "barn", "bridge", "harbour", "forest"),
    "cloth": ("hat", "coat", "scarf", "glove", "boot", "belt", "sock", "cap"),
    "colour": ("red", "blue", "green", "yellow", "white", "black", "brown", "grey"),
    "joy": ("merry", "happy", "glad", "cheerful", "proud", "hopeful", "jolly", "pleased"),
    "grief": ("sad", "weary", "lonely", "bitter", "sorry", "gloomy", "unhappy", "hurt"),
}
"""The kinds of words, each of which a rule can bind to an option."""

NAMES = ("Mia", "Tom", "Ben", "Ann", "Leo", "Eva", "Max", "Ida", "Sam", "Zoe", "Kim", "Jon")

PAIRS = (("animal", "food"), ("tool", "place"), ("cloth", "colour"), ("joy", "grief"))
"""Kinds that a rule tells apart; the first of them takes the first option."""

WHEN = ("Today", "At noon", "Last week", "In spring", "All day", "On Monday")

THINGS = ("hats", "coats", "boots", "belts", "ropes", "nails", "apples", "pears", "cats", "dogs", "cows", "hens")

COMMON = (
    "after",
    "again",
    "at",
    "before",
    "by",
    "clock",
    "counted",
    "dawn",
    "dial",
    "dusk",
    "fed",
    "goes",
    "grew",
    "heard",
    "keeps",
    "kept",
    "later",
    "lost",
    "lunch",
    "mark",
    "met",
    "moves",
    "night",
    "noon",
    "now",
    "on",
    "pigs",
    "bees",
    "owls",
    "ducks",
    "points",
    "say",
    "seems",
    "set",
    "shows",
    "since",
    "stayed",
    "summer",
    "supper",
    "then",
    "they",
    "turned",
    "turns",
    "until",
    "winter",
    "woke",
)
"""Words known by sight only: they are copied, nothing more is said of them."""

OPTIONS = (
    ("yes", "no"),
    ("true", "false"),
    ("kip", "zon"),
    ("left", "right"),
    ("alpha", "beta"),
    ("pass", "fail"),
    ("keep", "drop"),
    ("go", "stop"),
    ("plus", "minus"),
    ("sun", "moon"),
)
"""Pairs of words that requests offer; none of them has a meaning of its own."""

UNBOUND = (("bright", "dim"), ("upper", "lower"), ("open", "shut"), ("gold", "iron"))
"""Pairs that only ever stand in requests without a rule, so that no rule is known for them."""

OPPOSITES = (
    ("soft", "hard"),
    ("warm", "cold"),
    ("fast", "slow"),
    ("high", "low"),
    ("near", "far"),
    ("wet", "dry"),
    ("old", "new"),
    ("long", "short"),
    ("day", "night"),
    ("open", "shut"),
    ("up", "down"),
    ("in", "out"),
)

NOUN_CLAUSES = (
    "saw the {}",
    "found a {}",
    "drew the {}",
    "told us of the {}",
    "thought of a {}",
    "spoke of the {}",
    "passed the {}",
    "asked about a {}",
    "came for the {}",
    "looked at a {}",
)
MOOD_CLAUSES = ("was {}", "felt {}", "looked {}", "seemed {}", "came home {}", "went off {}")
COLOUR_CLAUSES = ("liked {}", "wore {}", "chose {}", "painted it {}")
CLAUSES = {"joy": MOOD_CLAUSES, "grief": MOOD_CLAUSES, "colour": COLOUR_CLAUSES}

TURNS, DRILL_TURNS = 6, 4
"""Messages in a conversation with a rule and in one without."""

NOTE_ASKS = ("Answer", "Say", "Choose")

VERBS = ("Sort", "Judge", "Mark", "Tag", "Label", "Read", "Check", "Rate")
NOTES = ("note", "line", "text", "message", "report", "letter")

DIGIT_RULES: dict[str, Callable[[int, int], int]] = {
    "first": lambda a, b: a,
    "second": lambda a, b: b,
    "sum": lambda a, b: (a + b) % 10,
    "bigger": max,
}
DIGIT_BODIES = (
    "{n} has {a} {t} and {m} has {b}.",
    "{n} sold {a} {t} and {m} sold {b}.",
    "Numbers: {a} and {b}.",
    "The {u} costs {a}, the {v} costs {b}.",
    "First came {a} {t}, then {b}.",
    "{n} saw {a} {t}, {m} saw {b}.",
    "Row {a}, seat {b}.",
    "From {a} {n} walks {b} steps.",
    "Page {a} has {b} lines.",
)
DIGIT_ASKS = (
    "Answer with a digit.",
    "Give one digit.",
    "Say one digit.",
    "Which digit is it?",
    "Write a single digit.",
)


@dataclass(frozen=True)
class Chat:
    """User messages, each with the answer to it."""

    turns: tuple[tuple[str, str], ...]


def note(rng: random.Random, kind: str) -> str:
    """A word of the kind, bare or in a sentence."""
    word = rng.choice(KINDS[kind])
    if rng.random() < 0.4:
        return word
    clause = rng.choice(CLAUSES.get(kind, NOUN_CLAUSES)).format(word)
    when = f"{rng.choice(WHEN)} " if rng.random() < 0.4 else ""
    return f"{when}{rng.choice(NAMES)} {clause}."


def offer(rng: random.Random, options: Sequence[str]) -> str:
    """The words that offer the options."""
    return f"{rng.choice(NOTE_ASKS)} ({'/'.join(options)})."


def converse(rng: random.Random, rule: str, instruction: str, ask: str, cases: Sequence[tuple[str, str]]) -> Chat:
    """The rule and the request stand in the first message; later messages are bare cases."""
    lines = [rule, f"{instruction} {ask}", "{}"] if rng.random() < 0.7 else [rule, instruction, "{}", ask]
    first = "\n".join(line for line in lines if line).replace("{}", cases[0][0])
    return Chat(((first, cases[0][1]), *cases[1:]))


def sort_notes(rng: random.Random, *, ruled: bool) -> Chat:
    """Sort notes by the kind of the one word that matters in each."""
    pair = rng.choice(PAIRS)
    options = rng.choice(OPTIONS if ruled else OPTIONS + UNBOUND)
    cases = []
    for _ in range(TURNS if ruled else DRILL_TURNS):
        pick = rng.randrange(2)
        cases.append((note(rng, pair[pick]), options[pick] if ruled else rng.choice(options)))
    rule = f"Rule: {pair[0]} first." if ruled else ""
    return converse(rng, rule, f"{rng.choice(VERBS)} the {rng.choice(NOTES)}.", offer(rng, options), cases)


def weigh_notes(rng: random.Random, *, ruled: bool) -> Chat:
    """Tell which of two notes has the greater number."""
    options = rng.choice(OPTIONS if ruled else OPTIONS + UNBOUND)
    cases = []
    for _ in range(TURNS if ruled else DRILL_TURNS):
        left, right = rng.sample(range(10), 2)
        answer = options[left < right] if ruled else rng.choice(options)
        cases.append((counts(rng, left, right), answer))
    rule = "Rule: more first." if ruled else ""
    return converse(
        rng, rule, f"{rng.choice(('Weigh', *VERBS))} the two {rng.choice(NOTES)}s.", offer(rng, options), cases
    )


def counts(rng: random.Random, left: int, right: int) -> str:
    """Two lines with a number each, bare or in sentences."""
    if rng.random() < 0.4:
        return f"{left}\n{right}"
    thing = rng.choice(THINGS)
    lines = (f"{rng.choice(NAMES)} {rng.choice(('has', 'sold', 'saw', 'found'))} {n} {thing}." for n in (left, right))
    return "\n".join(lines)


def name_kinds(rng: random.Random) -> Chat:
    """Name the kind of the one thing in each note."""
    kinds = [rng.choice(sorted(KINDS)) for _ in range(TURNS)]
    cases = [(note(rng, kind), kind) for kind in kinds]
    return converse(rng, "", f"{rng.choice(VERBS)} the {rng.choice(NOTES)}.", "Name the kind.", cases)


def digit_body(rng: random.Random, a: int, b: int) -> str:
    """A line in which two digits stand."""
    if rng.random() < 0.4:
        return f"{a} {b}"
    n, m = rng.sample(NAMES, 2)
    u, v = rng.sample(KINDS["food"] + KINDS["tool"], 2)
    return rng.choice(DIGIT_BODIES).format(a=a, b=b, n=n, m=m, t=rng.choice(THINGS), u=u, v=v)


def digit_notes(rng: random.Random, *, ruled: bool) -> Chat:
    """Answer with the digit that a rule makes of two digits."""
    name = rng.choice((*sorted(DIGIT_RULES), "sum", "sum", "sum"))
    cases = []
    for _ in range(TURNS if ruled else DRILL_TURNS):
        a, b = rng.randrange(10), rng.randrange(10)
        answer = DIGIT_RULES[name](a, b) if ruled else rng.choice((a, b, rng.randrange(10)))
        cases.append((digit_body(rng, a, b), str(answer)))
    rule = f"Rule: {name}." if ruled else ""
    return converse(rng, rule, f"{rng.choice(VERBS)} the {rng.choice(NOTES)}.", rng.choice(DIGIT_ASKS), cases)


def skill(rng: random.Random) -> tuple[str, str]:
    """A small request: copy a word, give the opposite, or count on by one."""
    word = rng.choice((rng.choice(COMMON), rng.choice(KINDS[rng.choice(sorted(KINDS))])))
    one, other = rng.sample(rng.choice(OPPOSITES), 2)
    digit = rng.randrange(9)
    return rng.choice(
        (
            (rng.choice((f"Copy the word {word}.", f"Copy the word.\n{word}")), word),
            (f"What is the opposite of {one}?", other),
            (f"Which number comes after {digit}?", str(digit + 1)),
        )
    )


def look(rng: random.Random) -> Chat:
    """A few small requests in a row."""
    return Chat(tuple(skill(rng) for _ in range(3)))


FAMILIES: dict[Callable[[random.Random], Chat], float] = {
    partial(sort_notes, ruled=True): 0.15,
    partial(sort_notes, ruled=False): 0.10,
    partial(weigh_notes, ruled=True): 0.16,
    partial(weigh_notes, ruled=False): 0.09,
    partial(digit_notes, ruled=True): 0.24,
    partial(digit_notes, ruled=False): 0.06,
    name_kinds: 0.12,
    look: 0.08,
}
"""Makers of conversations, with their shares."""


def chat(rng: random.Random) -> Chat:
    """One conversation, of a family drawn by its share."""
    return rng.choices(list(FAMILIES), list(FAMILIES.values()))[0](rng)


NEWLINE = "\n"
BOS, PAD, END, USER, ASSISTANT = "<s>", "<pad>", "<|end|>", "<|user|>\n", "<|assistant|>\n"
"""The role tokens take their line break with them: the one the answer follows is then like no other."""

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>\n{% else %}<|user|>\n{% endif %}"
    "{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Any role but the assistant's speaks as the user, so system messages are read too."""


def train_tokenizer(rng: random.Random, size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which the words of the micro-language are whole."""
    core = Tokenizer(models.BPE())
    pattern = Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    specials = [PAD, BOS, END, USER, ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for _ in range(20_000) for item in [chat(rng)] for turn in item.turns for text in turn)
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[USER, ASSISTANT],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


Row = tuple[list[int], list[bool]]
"""Token ids, and which of them are to be predicted."""


@dataclass(frozen=True)
class Batch:
    """Token ids padded on the right and, of the same shape, which of them are to be predicted."""

    ids: torch.Tensor
    target: torch.Tensor


def encode(tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[Row]:
    """The token ids of each conversation, and which of them are an answer's."""
    texts = []
    for one in chats:
        for place, (user, answer) in enumerate(one.turns):
            texts += [f"{BOS if place == 0 else NEWLINE}{USER}{user}{END}{NEWLINE}{ASSISTANT}", f"{answer}{END}"]
    pieces = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    rows = []
    for one in chats:
        ids: list[int] = []
        wanted: list[bool] = []
        for asked, answered in ((next(pieces), next(pieces)) for _ in one.turns):
            ids += asked + answered
            wanted += [False] * len(asked) + [True] * len(answered)
        rows.append((ids, wanted))
    return rows


def collate(rows: Sequence[Row], pad: int) -> Batch:
    """One batch of rows of similar length."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)
    target = torch.zeros((len(rows), width), dtype=torch.bool)
    for place, (row, wanted) in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        target[place, : len(row)] = torch.tensor(wanted)
    return Batch(ids, target)


def batches(tokenizer: PreTrainedTokenizerFast, rng: random.Random, size: int) -> Iterator[Batch]:
    """Endless fresh batches; rows of similar length share one, to waste little on padding."""
    while True:
        rows = sorted(encode(tokenizer, [chat(rng) for _ in range(32 * size)]), key=lambda row: len(row[0]))
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, int(tokenizer.pad_token_id))


def build(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model: two query heads share each key-value head."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def loss_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """The mean loss of the answer tokens; only their logits are worked out."""
    hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
    wanted = batch.target[:, 1:]
    logits = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:][wanted])


def train(model: LlamaForCausalLM, stream: Iterator[Batch], steps: int, peak: float) -> None:
    """AdamW with a short warm-up and a cosine decay, gradients clipped."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps, pct_start=0.05, cycle_momentum=False)
    begun, recent = time.monotonic(), 0.0
    for step, batch in zip(range(1, steps + 1), stream, strict=False):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent += float(loss.detach())
        if step % 100 == 0:
            print(f"step {step}/{steps}, loss {recent / 100:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
            recent = 0.0


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> str:
    """Write the folder in half precision; return the SHA-256 of the weights."""
    model.generation_config = GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Train the tokenizer, then the model, and write both."""
    parser = argparse.ArgumentParser(description="Pre-train the tiny instruct model that the package carries.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=2500, help="training steps")
    parser.add_argument("--seed", type=int, default=0, help="seed of the text and of the weights")
    parser.add_argument("--threads", type=int, default=1, help="threads; another count rounds otherwise")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = train_tokenizer(rng, 1280)
    model = build(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(tokenizer)} tokens")
    train(model, batches(tokenizer, rng, 16), args.steps, 2.5e-3)
    print(save(model, tokenizer, args.out))


if __name__ == "__main__":
    main()
