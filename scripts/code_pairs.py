r"""Python code invented for the oracle of CodeBLEU: what it is about, a candidate, its references.

Every construct that the metric treats in a way of its own is here at least once, right and wrong.
"""

from __future__ import annotations

Pair = tuple[str, str, list[str]]
# Where the grammar 0.21 and later ones guess differently what wrong code was meant to be; left out of corpora.
GUESSED = "guessed: "

_MEAN = '''
def mean(values):
    """The arithmetic mean."""
    total = 0
    for value in values:
        total += value  # one after the other
    return total / len(values)
'''
_QUEUE = '''
class Queue:
    """First in, first out."""

    limit = 10

    def __init__(self, items=(), limit=None):
        self.items = list(items)
        self.limit = limit or Queue.limit

    def push(self, item):
        if len(self.items) >= self.limit:
            raise OverflowError("full: # %d" % self.limit)
        self.items.append(item)
        return self

    def pop(self):
        head, *rest = self.items
        self.items = rest
        return head
'''
_SIEVE = """
def primes(n):
    sieve = [True] * (n + 1)
    p = 2
    while p * p <= n:
        if sieve[p]:
            q = p * p
            while q <= n:
                sieve[q] = False
                q += p
        p += 1
    return [i for i, is_prime in enumerate(sieve) if is_prime and i > 1]
"""
_BRANCHES = """
def sign(x, zero=0, one=1):
    if x > zero:
        result = one
    elif x < zero:
        result = -one
        note = result
    else:
        result = zero
    if result is not zero:
        note = "signed"
    return result, note
"""
_FILES = """
def copy(source, target, encoding="utf-8"):
    count = 0
    with open(source, encoding=encoding) as reader, open(target, "w") as writer:
        for line in reader:
            try:
                writer.write(line)
            except OSError as error:
                print(f"line {count}: {error!r}")
                raise
            else:
                count += 1
            finally:
                writer.flush()
    return count
"""
_DECORATED = """
import functools

def traced(prefix, *, times=1):
    def wrap(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            nonlocal times
            times -= 1
            result = function(*args, **kwargs)
            print(prefix, result)
            return result
        return inner
    return wrap

@traced("->", times=3)
def double(x: int) -> int:
    return x * 2
"""
_COUNTER = """
counts = {}
def tally(words):
    global counts
    for word in words:
        if word not in counts:
            counts[word] = 0
        counts[word] = counts[word] + 1
    best = max(counts, key=lambda w: (counts[w], w))
    return {w: n for w, n in counts.items() if n > 1}, best
"""
_GRID = """
total = 0
for row in grid:
    for cell in row:
        if cell:
            seen = cell
            total = total + seen
        last = seen
    first = last
print(total, first)
"""


def _pairs_of_programs() -> list[Pair]:
    renamed = _MEAN.replace("total", "s").replace("value", "v")
    return [
        ("the same", _MEAN, [_MEAN]),
        ("names changed", renamed, [_MEAN]),
        ("comments and docstring taken away", _bare(_MEAN), [_MEAN]),
        ("another program", _SIEVE, [_MEAN]),
        ("a shorter one", "def mean(values):\n    return sum(values) / len(values)", [_MEAN]),
        ("two references", renamed, [_MEAN, "def mean(v):\n    return sum(v) / len(v)"]),
        ("three references, one of them it", _SIEVE, [_MEAN, _SIEVE, _GRID]),
        ("lower case", _QUEUE.lower(), [_QUEUE]),
        ("cut off inside a call", _QUEUE[:330], [_QUEUE]),
        ("cut off inside a string", _QUEUE[:405], [_QUEUE]),
        ("methods in another order", _swapped(_QUEUE), [_QUEUE]),
        ("an operator changed", _SIEVE.replace("<=", "<").replace("+=", "-="), [_SIEVE]),
        ("a loop less", _SIEVE.replace("while q <= n", "if q <= n"), [_SIEVE]),
        ("lines in reverse", "\n".join(reversed(_SIEVE.splitlines())), [_SIEVE]),
        ("a branch less", _BRANCHES.replace("    else:\n        result = zero\n", ""), [_BRANCHES]),
        ("elif as if", _BRANCHES.replace("elif", "if"), [_BRANCHES]),
        ("one default more", _BRANCHES.replace("one=1", "one=zero + 1"), [_BRANCHES]),
        ("with, try and for", _FILES.replace("encoding", "enc"), [_FILES]),
        ("try without finally", _FILES.replace("            finally:\n                writer.flush()\n", ""), [_FILES]),
        ("except without a name", _FILES.replace(" as error", "").replace("{error!r}", "?"), [_FILES]),
        ("decorators and nested functions", _DECORATED.replace("times", "n"), [_DECORATED]),
        ("a decorator less", _DECORATED.replace('@traced("->", times=3)\n', ""), [_DECORATED]),
        ("global, lambda, comprehension", _COUNTER.replace("w", "k"), [_COUNTER]),
        ("in for not in", _COUNTER.replace("not in", "in"), [_COUNTER]),
        ("nested loops", _GRID.replace("seen", "x"), [_GRID]),
        ("nested loops, one name for two", _GRID.replace("seen", "total"), [_GRID]),
        ("two programs for two", _GRID + _MEAN, [_MEAN, _GRID]),
        ("many references", _COUNTER, [_MEAN, _QUEUE, _COUNTER, _GRID]),
    ]


def _pairs_of_constructs() -> list[Pair]:
    alike = [
        ("chained assignment", "a = b = c = f(a)\nd = a + b", "x = y = z = f(x)\nd = x + z"),
        ("parallel assignment", "a, b = b, a + b\nc = a", "x, y = y, x\nc = x"),
        ("starred", "a, *b = c\nprint(*b, **d)", "a, b = c\nprint(b, *d)"),
        ("subscripts", "a[0] = a[i] + 1\nb = a[0]", "a[0] = a[j]\nb = a[1]"),
        ("as many parts on both sides", "a.b = c + d\ne = a.b", "a.b = c - d\ne = b"),
        ("a string to an attribute", "x = 1\na.b = 'c'\ny = x", "x = 1\na.b = 'd'\ny = x"),
        ("augmented", "n += n * m\nn -= 1\nn //= k", "n = n + n * m\nn = n - 1"),
        ("walrus", "while (line := read()):\n    use(line)", "line = read()\nwhile line:\n    use(line)"),
        ("annotated", "x: int\ny: list[int] = [x]\nz = y", "x = 0\ny = [x]\nz = y"),
        ("for with else", "for a in b:\n    c = a\nelse:\n    d = b", "for a in b:\n    c = a\nd = b"),
        ("while with else", "while a:\n    a = f(a)\nelse:\n    b = a", "while a:\n    a = f(a)\nb = a"),
        ("targets of for", "for i, (a, b) in x:\n    y = a, b", "for i, a, b in x, z, w:\n    y = b, a"),
        ("no else", "if a:\n    b = 1\nc = b", "if a:\n    b = 1\nelse:\n    b = 2\nc = b"),
        (
            "while over if",
            "while a:\n    if b:\n        a = b\n    else:\n        b = a",
            "while a:\n    a = b\n    b = a",
        ),
        ("one name twice in a loop", "for i in x:\n    a = i + i\n    b = a", "i = x\na = i + i\nb = a"),
        ("what an if leaves", "a = []\nif c:\n    a = c\nb = a", "a = []\nif c:\n    a = c\nelse:\n    a = b\nb = a"),
        (
            "what an else does not",
            "a = []\nif c:\n    a = c\nelse:\n    a = b\nb = a",
            "a = []\nif c:\n    a = c\nb = a",
        ),
        ("elif without else", "a = []\nif c:\n    a = c\nelif d:\n    a = d\nb = a", "a = []\nif c:\n    a = d\nb = a"),
        (
            "set in the first block",
            "if c:\n    a = []\nb = a\nd = a",
            "if c:\n    a = []\nelse:\n    a = d\nb = a\nd = a",
        ),
        ("two loops over one name", "for a in a:\n    a = a + a\nfor a in a:\n    b = a", "for a in b:\n    a = a + a"),
        ("comprehensions", "[x + y for x in a for y in x if y]", "[x + y for y in a for x in y]"),
        ("set and dict of", "{k: v for k, v in a}\n{k for k in a}", "{k: k for k in a}\n{v for v in a}"),
        ("generator in a call", "any(x is not None for x in xs)", "any(x is None for x in xs)"),
        ("lambda", "f = lambda a, b=c: a + b\ng = f(1)", "def f(a, b=c):\n    return a + b\ng = f(1)"),
        (
            "defaults of many parts",
            "def f(a, b=[c, d], *e, g=a + a, **h):\n    return b, g",
            "def f(a, b=c, g=a):\n    return b",
        ),
        ("no default", "def f(a, b=[]):\n    b = a\n    return b", "def f(a, b={}):\n    return b"),
        ("is not and not in", "a = b is  not c\nd = e not in f\nb = a", "a = b is c\nd = e in f\nb = a"),
        ("literals", "a = None\nb = True\nc = 1.5e3j\nd = ...\ne = -1", "a = 0\nb = False\nc = 1\nd = a\ne = 1"),
        (
            "async",
            "async def f(a):\n    async with a as b:\n        return await b",
            "def f(a):\n    with a as b:\n        return b",
        ),
        ("yield", "def f(a):\n    x = yield a\n    yield from x", "def f(a):\n    for x in a:\n        yield x"),
        ("match", "match a:\n    case [1, *b]:\n        c = b\n    case _:\n        c = a", "if a == 1:\n    c = a"),
        (
            "exception groups",
            "try:\n    f()\nexcept* ValueError as e:\n    g(e)",
            "try:\n    f()\nexcept ValueError as e:\n    g(e)",
        ),
        ("bare except", "try:\n    f()\nexcept:\n    pass", "try:\n    f()\nexcept (A, B):\n    pass\nelse:\n    g()"),
        ("type aliases", "type A = int\ntype B[T] = list[T]", "type A = str\nB = list[A]"),
        (
            "imports",
            "import a.b as c\nfrom d import (e, f as g)\nfrom . import *",
            "import a\nfrom d import e\nfrom .h import f",
        ),
        ("global and del", "global a\ndel a, b[c]\nassert a, b", "nonlocal a\ndel a\nassert b"),
        ("raise from", "raise A(b) from c", "raise A"),
        ("conditional", "a = b if c else d\na", "a = c and b or d\na"),
        ("comparisons", "a < b <= c != d", "a < b and b <= c"),
        ("slices", "a[1:2, ::b][-1]", "a[1:2][::b]"),
        ("print of Python 2", 'print "a", b\nexec c', 'print("a", b)\nexec(c)'),
    ]
    return [(about, candidate, [reference]) for about, candidate, reference in alike]


def _pairs_of_texts() -> list[Pair]:
    alike = [
        ("strings with number signs", "a = '# no comment'  # a comment\nb = \"it's # none\"", "a = '#'\nb = a"),
        ("f-strings", 'a = f"{b!r:>{c}} {{d}} # {e}"\nf = a', "a = str(b)\nf = a"),
        ("escapes", r"""a = "\n\0\12\x41\101\d\\" + b"\0" + r"\n" """, r"""a = "\n\x41" + "\d" """),
        ("octal numbers", r"a = '\12'", r"a = '\1'"),
        ("triple quotes", 'a = """one\n  # two\n"""\nb = a', "a = 'one'\nb = a"),
        ("one text in two lines, twice", "a = '''b\nc'''\nd = '''b\nc'''", "a = s\nd = s"),
        ("joined strings", "a = 'b' 'c' \"d\"\ne = a", "a = 'bcd'\ne = a"),
        ("two docstrings", 'def f():\n    "one"\n    "two"\n    return "three"', 'def f():\n    return "three"'),
        ("a docstring behind a comment", "def f():\n    # why\n    'one'\n    return 1", "def f():\n    return 1"),
        ("a string first in its line", "f(\n'a',\n  'b')", "f('a', 'b')"),
        ("a string after a block", "if a:\n    b\n'c'\n", "if a:\n    b\n"),
        ("strings before a string", "x\n'a' 'b'\n  \ny", "x\ny"),
        ("joined lines", "a = b + \\\n    c\nif a and \\\n   b:\n    d = a", "a = b + c\nif a and b:\n    d = a"),
        ("tabs", "if a:\n\tb = a\n\tif b:\n\t\tc = b\n\td = c", "if a:\n  b = a\n  if b:\n    c = b\n  d = c"),
        ("tabs as blanks", "if a:\n        if b:\n\t\tc = d  # e\n\tf = c  # g", "if a:\n if b:\n  c = d\n f = c"),
        ("carriage returns", "a = 1\r\nif a:\r\n    b = a  # c\r\n", "a = 1\nif a:\n    b = a\n"),
        ("indented as a whole", "    a = b\n    c = a\n", "a = b\nc = a\n"),
        ("letters of the world", "größe = 1\nname = 'é' + größe\nπ = name", "size = 1\nname = 'e' + size\npi = name"),
        ("faces", "a = '😀'; b = a; c = b\nd = c", "a = 'x'; b = a; c = b\nd = c"),
        ("semicolons", "a = 1; b = a; c = b", "a = 1\nb = a\nc = b"),
        ("blanks", "f( a ,b )", "f(a, b)"),
        ("one word", "x", "y"),
        ("five keywords", "pass pass pass pass pass", "pass pass pass pass pass"),
        ("three equal words", "a b c", "a b c"),
        ("nothing for something", "", "a = b"),
        ("something for nothing", "a = b", ""),
        ("nothing for nothing", " \n\t", "\n"),
        ("only a comment", "# a = b", "a = b"),
        ("prose", "I am sorry, but I cannot write that program.", "a = b"),
        ("prose for prose", "Take the list. Then sort it!", "Take the list; then sort it."),
        ("fenced", "```python\na = b\nc = a\n```", "a = b\nc = a"),
        ("other languages", "int main() { return 0; }", "def main():\n    return 0"),
        ("no colon", "def f(a)\n    return a", "def f(a):\n    return a"),
        ("open bracket", "a = f(b, [c\nd = a", "a = f(b, [c])\nd = a"),
        ("open string", "a = 'b\nc = a", "a = 'b'\nc = a"),
        ("open triple string", "a = b\nc = '''a\nd", "a = b\nc = a"),
        ("back to nowhere", "if a:\n        b = a  # c\n    d = b", "if a:\n    b = a\nd = b"),
        ("nothing assigned", "a = \nb = a", "a = 1\nb = a"),
        ("odd characters", "a ? b $ c ! d", "a if b else c"),
        ("other odd characters", "a ? b", "a $ b"),
        ("a comment in what is not closed", "a = (b,  # c\n     d)\ne = a\nf = (g", "a = (b,\n     d)\ne = a\nf = (g"),
        ("a backslash at the end", "a = b  # c\nd = a \\\n", "a = b\nd = a \\"),
        ("a backslash at the start", "\\\n  'a'\nb = c\nd = b", "b = c\nd = b"),
        ("null", "a\0b = 1\nc = a", "ab = 1\nc = ab"),
        ("twice the same error", "a = (b\nc = )", "a = (b\nc = )"),
    ]  # fmt: skip
    several = [
        ("a candidate that loses more with each reference", "x\n'a' 'b' 'c'\ny", ["x\ny", "x\n'c'\ny", "y\nx\ny"]),
        ("references of one length apart", "a b c d", ["a b c", "a b c d e", "a"]),
        ("an empty reference among others", "a = b", ["", "a = b", "c = a"]),
        ("n-grams from two references", "a = b + c * d", ["a = b + c", "e = c * d", "x"]),
    ]
    guessed = [
        (GUESSED + "a string lost before `in`", "'a' in ['b', 'c']", "a = ['b', 'c']"),
        (GUESSED + "a keyword as a name", "[x for x in a .if b]", "[x for x in a if b]"),
        (GUESSED + "a clause without its statement", "else:\n    a = 1", "if b:\n    a = 1"),
        (GUESSED + "`for` without its expression", "a = [for x in y]", "a = x in y"),
    ]
    return [*((about, a, [b]) for about, a, b in alike), *several, *((about, a, [b]) for about, a, b in guessed)]


def _bare(code: str) -> str:
    kept = [line.partition("  #")[0] for line in code.splitlines() if '"""' not in line]
    return "\n".join(kept)


def _swapped(code: str) -> str:
    push, pop = code.index("    def push"), code.index("    def pop")
    return code[:push] + code[pop:] + "\n" + code[push:pop]


PAIRS: list[Pair] = [*_pairs_of_programs(), *_pairs_of_constructs(), *_pairs_of_texts()]
