"""Predictions that tempt a metric to go wrong: fixed lists for each kind of task, and strategies around them.

`fixed_texts(dataset)` is for loops and parametrised tests, `predictions(dataset)` and `rows(dataset)` for properties.
Every list has the texts that all kinds share: nothing, white space, half a thought, other scripts, a very long text.
"""

from __future__ import annotations

from hypothesis import strategies as st

from oracles.published_rows import KIND, LABELS, Kind, PublishedRow

HUGE = "x" * 100_000
# The first 16 characters of both are the same.
LONG_LABELS = ("not_entailment_at_all", "not_entailment_at_last")

COMMON = (
    "",
    " ",
    "\n\t \r\n",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "\0",
    ".",
    "None",
    "<think>",
    "</think>",
    "</think>\n\n",
    "<think>\n\n</think>\n\n",
    "<think>only a thought",
    "İstanbul ΣΑΣ ﬁn straße",
    "e\u0301 \u00e9",
    "答えは二",
    "\U0001f600",
    HUGE,
)
NUMBERS = (
    *("0", "-0.0", "5", "5.0", "+5", "-1", "-1.0", "3.799999952316284", "3.8", "1e5", "1E5", "1_000", "1__000"),
    *("0x10", "1,5", "1,000", "5.", ".5", "5.0.", "5/5", "50%", "five", "5 out of 5", "score: 5", "$5", "٥", "５", "²"),
    *("½", "−5", "nan", "NaN", "-nan", "inf", "-Infinity", "1e400", "1e308", "-1e308", "1e-400", "true", "1j", "5\n5"),
    "9" * 5000,
)
MARKED_NUMBERS = (
    *("18", "#### 18", "####18", "#### 18.0", "#### 18.", "#### 18 ", "#### 18\n", "#### 18\neggs", "#### 18 eggs"),
    *("#### $18", "#### 1,800", "#### 1,8,0,0", "#### 18%", "#### %,18", "#### 18,", "#### -18", "#### 17.9999995"),
    *("#### 18.000001", "#### 18.0000011", "#### 17\n#### 18", "#### 18\n#### 17", "#### 18 ####", "####"),
    *("#### ####", "##### 18", "###### 18", "### 18", "# # # # 18", "18 ####", "#### nan", "#### inf", "#### 1_8"),
    *("#### 1.8e1", "#### 0x12", "#### 18 = 18", "#### **18**", "#### eighteen", "#### １８", "#### " + "9" * 5000),
    *("#### -", "#### ,%"),
)
EQUATIONS = (
    *("(1 + 1) = 2", "(1+1)=2", "((1+1)) = 2", "( ( 1.0 + 1.0 ) * 3.0 ) = 6", "(1)+(1) = 2", "(1+1)*(2) = 4"),
    *("1 + 1 = 2", "= 5", "(1+1) =", "=", "==", "(1+1) == 2", "(1+1) = 2 = 2", "(2) = (2)", "2 = (1+1)", "() = 0"),
    *("( = 2", "(1+1 = 2", "1+1) = 2", ")1+1( = 2", "(2) = 2", "(1/0) = 0", "(1//0) = 0", "(1%0) = 0"),
    *("(0.0/0.0) = nan", "(1e400) = inf", "(1e400-1e400) = nan", "(2 ** 99999) = 1", "(2 ** 2) = 4", "(2^2) = 4"),
    *("(9**9**9**9) = 1", "(7 // 2) = 3", "(7 / 2) = 3.5", "(7 % 4) = 3", "(-7 // 2) = -4", "(-7 % 4) = 1"),
    *("(-1) = -1", "(+1) = +1", "(--1) = 1", "(~1) = -2", "(1 x 1) = 1", "(2 × 3) = 6", "(6 ÷ 3) = 2", "(2 - 1) = 1"),
    *("(2 − 1) = 1", "(1,000 + 1) = 1001", "(1+1) = 1,000", "(1_0 + 1) = 11", "(0x10) = 16", "(16) = 0x10"),
    *("(1e5) = 100000", "(100000) = 1e5", "(01 + 1) = 2", "(.5 + .5) = 1.", "(50%) = 0.5", "($1 + $1) = $2"),
    *("(1+1) = 2.", "(1+1) = 2 apples", "(1+1) = 2.000001", "(1+1) = 2.0000011", "(0.1 + 0.2) = 0.3"),
    *("(1 / 3) = 0.333333", "(1 / 3) = 0.33333", "(1+1) = two", "(x + 1) = 2", "(true + 1) = 2", "(1j) = 1"),
    *("('1' * 3) = 111", "(1, 2) = 1", "(1 if 1 else 2) = 1", "(1 or 2) = 1", "(1or 2) = 1", "(1)(1) = 1"),
    *("(abs(1)) = 1", "(__import__('os')) = 1", "(lambda: 1) = 1", "(a := 1) = 1", "(1 <= 1)", "(1 +\n 1) = 2"),
    *("(1 + 1) = 2\n(1 + 1) = 2", "The answer is (1 + 1) = 2", "(1 + 1) = 2 </think>\n\n(1 + 1) = 3", "[1 + 1] = 2"),
    *("( 8.0 - 3.0 ) = 5", "(8.0-3.0)=5", r"( 8.0 - 3.0 )\s = 5", r"( 8.0 - 3.0 )\sss = 5", "（1 + 1） = 2"),
    *("(1 + 1) ＝ 2", "(" + "9" * 400 + ") = 1", "(" + "9" * 400 + " * 1.0) = inf", "(" + "9" * 5000 + ") = 1"),
    *("(" * 500 + "1" + ")" * 500 + " = 1", "(" + "1+" * 20_000 + "1) = 20001", "(" + "-" * 20_000 + "1) = 1"),
)
ENTITIES = (
    *("Mara Lind", "mara  lind", "the Mara Lind", "Mara, Lind.", "Mara-Lind", "Mara", "Lind Mara"),
    *("Mara Mara Lind", "A", "a", "The", "an the a", "The The", "Theatre", "U.S.", "US", "'s", "...", "!?", "A."),
    *("a-b", "The U.S.A.", "“Mara Lind”", "Zoë", "Zoe\u0308", "the　Lind", "@placeholder", "<unk>"),
    "Mara Lind, Norway",
)
PROGRAMS = (
    *("x = None", "X = TRUE", "def f(:", "return", "print 'two'", "```python\nx = 1\n```", "Sure, here is the code:"),
    *("# only", '"""', "def f():\n\treturn 1\n        return 2", "x = 1; " * 50, "lambda: 0", "\\"),
    *("class A(B): pass", "é = '\u2028'", "import os\nos.listdir('.')", "if x:\n", "{{{{", "SELECT * FROM t"),
    *("x" + " + x" * 200, "def f(a):\n    return a\n"),
)
# What `dressed` puts before and after a text; mostly nothing, or no prediction would ever be right.
THOUGHT = ("<think>\n\n</think>\n\n", "")
AROUND = (("", ""), ("", ""), ("", ""), (" ", "\n"), ("", "."), ("\n\n", ""), THOUGHT, ("a</think>\n\n", " "))


def fixed_texts(dataset: str) -> tuple[str, ...]:
    """All fixed adversarial predictions for one dataset, the plain ones and those behind a thought."""
    kind = KIND[dataset]
    special = class_texts(LABELS[dataset]) if dataset in LABELS else _SPECIAL[kind]
    thoughts = tuple(form for text in special[:12] for form in thought_texts(text))
    return COMMON + special + thoughts


def thought_texts(text: str) -> tuple[str, ...]:
    """One text behind, in and before a thought."""
    return (
        f"<think>\n\n</think>\n\n{text}",
        f"<think>{text}</think>\n\n{text}",
        f"<think>a</think>\n\nb</think>\n\n{text}",
        f"<think>{text}</think>\n\n",
        f"{text}</think>\n\n{text}.",
        f"<think>a</think>\n\n {text}",
        f"<think>a</think>\n{text}",
        f"<THINK>a</THINK>\n\n{text}",
        f"<think>{text}",
    )


def class_texts(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Each label in many dresses, several labels at once, and labels that are not in the list."""
    together = (" ".join(labels), " or ".join(labels), "\n".join(labels), ", ".join(reversed(labels)))
    foreign = (*LONG_LABELS, "unknown", "yes", "no", "0", "1", "2", "choice", "entailment", "not entailment", "f", "1.")
    return together + tuple(form for label in labels for form in _dresses(label)) + foreign


def _dresses(label: str) -> tuple[str, ...]:
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in label if letter.isalnum())
    return (
        *(label, label.upper(), label.title(), f" {label}\n", f"{label}.", f"{label}!", f'"{label}"', f"({label})"),
        *(label[:-1], label[1:], f"{label}s", label * 2, label.replace("_", " "), f"not {label}", f"it is {label}"),
        *(f"{label}\0", f"\0{label}", f"{label}\u200b", f"{label}\n{label}", f"{label:<16}x", f"{label:_<16}x", wide),
    )


_SPECIAL: dict[Kind, tuple[str, ...]] = {
    "similarity": NUMBERS,
    "gsm8k": MARKED_NUMBERS + NUMBERS,
    "svamp": EQUATIONS,
    "record": ENTITIES,
    "code": PROGRAMS,
}


def predictions(dataset: str) -> st.SearchStrategy[str]:
    """Any prediction for one dataset: a fixed one, a generated one, free text, with or without something around it."""
    made = {"similarity": numbers(), "gsm8k": marked_numbers(), "svamp": equations(), "record": phrases()}
    plain = st.sampled_from([text for text in fixed_texts(dataset) if len(text) < 1000])
    parts = [plain, made.get(KIND[dataset], plain), st.text(max_size=40)]
    if dataset in LABELS:  # mostly right forms, or nothing but flips would be seen
        parts.insert(0, st.sampled_from(LABELS[dataset]))
    return dressed(st.one_of(parts))


def dressed(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A text, sometimes in capitals, with white space, a full stop or a thought."""
    return st.builds(
        lambda text, pair, loud: pair[0] + (text.upper() if loud else text) + pair[1],
        texts,
        st.sampled_from(AROUND),
        st.booleans(),
    )


def numbers() -> st.SearchStrategy[str]:
    """Texts that are a number to somebody."""
    return st.one_of(
        st.sampled_from([text for text in NUMBERS if len(text) < 1000]),
        st.floats(0, 5).map(str),
        st.floats().map(str),
        st.integers(-(10**6), 10**6).map("{:,}".format),
        st.integers(0, 10**6).map("{:_}".format),
        st.text("0123456789.,-+e%_ ", max_size=8),
    )


def marked_numbers() -> st.SearchStrategy[str]:
    """Working, a mark that is mostly right, and a number."""
    marks = st.sampled_from(["####", "#### ", "\n#### ", "###", "#####", "####\n", ""])
    return st.builds("{}{}{}".format, st.sampled_from(["", "2 + 2 = 4\n", "#### 3\n"]), marks, numbers())


def equations() -> st.SearchStrategy[str]:
    """Equations, most of them well formed, about half of them true."""
    small = st.one_of(st.integers(0, 20).map(str), st.integers(0, 20).map("{}.0".format), st.just("1e3"))
    signs = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", " + ", " - "])
    spaces = st.sampled_from(["({}{}{})", "( {} {} {} )", "{}{}{}", "({})({})({})"])
    left = st.recursive(small, lambda part: st.builds(str.format, spaces, part, signs, part), max_leaves=5)
    right = st.one_of(small, numbers())
    loose = st.builds("{}{}{}".format, left, st.sampled_from(["=", " = ", "==", " "]), right)
    errors = st.one_of(st.just(0.0), st.floats(-3e-6, 3e-6))
    true = st.builds(_true_equation, st.integers(0, 99), st.sampled_from("+-*%"), st.integers(1, 99), errors)
    return st.one_of(loose, true, st.sampled_from([text for text in EQUATIONS if len(text) < 1000]))


def _true_equation(left: int, sign: str, right: int, error: float) -> str:
    values = {"+": left + right, "-": left - right, "*": left * right, "%": left % right}
    return f"({left} {sign} {right}) = {values[sign] + error if error else values[sign]}"


def phrases() -> st.SearchStrategy[str]:
    """A few words of names, articles and punctuation in any order."""
    words = st.sampled_from(["a", "an", "the", "The", "Mara", "mara", "Lind", "U.S.", "US", "Zoë", "-", ".", "'s", ""])
    return st.one_of(st.lists(words, max_size=5).map(" ".join), st.sampled_from(ENTITIES))


def gold_labels(dataset: str) -> st.SearchStrategy[str]:
    """Raw label texts as the dataset has them (section 1.4), now and then in capitals."""
    if dataset in LABELS:
        return st.sampled_from([form for label in LABELS[dataset] for form in (label, label.title())])
    makers: dict[Kind, st.SearchStrategy[str]] = {
        "similarity": st.floats(0, 5, width=32).map(str),
        "gsm8k": st.sampled_from([-5, 0, 3, 18, 1000, 1800, 10**6]).map("2 + 2 = <<2+2=4>>4\n#### {:,}".format),
        "svamp": st.builds(
            _true_equation, st.integers(0, 99), st.sampled_from("+-*"), st.integers(1, 99), st.just(0.0)
        ),
        "code": st.sampled_from(PROGRAMS[-6:]),
    }
    return makers[KIND[dataset]]


def rows(dataset: str, min_size: int = 2, max_size: int = 12) -> st.SearchStrategy[list[PublishedRow]]:
    """Whole files of predictions: some right, some adversarial; for ReCoRD several rows of one query, in any order."""
    if KIND[dataset] == "record":
        return record_rows(min_size, max_size)
    made = st.one_of(
        gold_labels(dataset).flatmap(lambda label: st.builds(PublishedRow, dressed(st.just(label)), st.just(label))),
        st.builds(PublishedRow, predictions(dataset), gold_labels(dataset)),
    )
    return st.lists(made, min_size=min_size, max_size=max_size)


@st.composite
def record_rows(draw: st.DrawFn, min_size: int, max_size: int) -> list[PublishedRow]:
    """Rows of up to four queries with one to three answers each."""
    golds = draw(st.lists(st.lists(phrases(), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
    keys = draw(st.lists(st.integers(0, len(golds) - 1), min_size=min_size, max_size=max_size))
    made = []
    for key in keys:
        label = draw(st.sampled_from(golds[key]))
        predict = draw(st.one_of(st.sampled_from(golds[key]), predictions("record")))
        made.append(PublishedRow(predict, label, key, golds[key]))
    return made
