"""Which values come from which in Python code: the data flow of CodeBLEU (arXiv 2009.10297, section 3.3).

Every name and literal is a token with a position. A token that is read *comes from* the tokens of the same text that
may have set it last; one that is assigned is *computed from* the tokens on the right. What may have set it last is
found as compilers do (reaching definitions): branches meet, and loops are gone through until nothing new comes round.

The rules are those of the package `codebleu`, odd ones included, because known scores are its scores:

- all left of `=` is assigned, `a` and `0` in `a[0] = y`; for `x += y` as for `x = y`, and nothing on the left is read;
- a name that nothing has set is set where it is first read; a literal is not;
- the body of a `for` that has an `else` is not looked at; only `if`, `for` and `while` branch or repeat, and all else,
  functions too, is gone through once from top to bottom;
- keywords are tokens where the grammar gives them other names: `None`, `True`, the words of `is not`;
- columns in bytes are used as columns in characters, so tokens behind letters outside ASCII are cut askew;
- code has no data flow at all when an assignment or a loop lacks a part, and when a string is assigned to what has as
  many parts as a string: `self.name = "x"` (three: before, at and behind the dot; quotes, text, quotes).

Where the package puts names in the order of a Python set, which changes from process to process, the order here is
that of appearance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from peftbench.metrics._python_tree import Node, Point

Flow = tuple[str, str, tuple[str, ...]]
"""A token, its relation, and what it comes from; texts are replaced by `var_0`, `var_1`, ... in order of appearance."""

COMES_FROM, COMPUTED_FROM = "comesFrom", "computedFrom"

_WHOLE = "string"  # one token, whatever is inside
_LOOPS = {"for_statement", "while_statement"}
_CLAUSES = {"elif_clause", "else_clause"}
# Where every token of a long list is computed from every token of another, memory ends before patience does.
_MOST_PARENTS = 10**6


class _NoDataFlow(ValueError):
    """A part that the rules need is missing, or there is more than can be kept."""


class _Token(NamedTuple):
    position: int
    text: str


@dataclass
class _Entry:
    """What is known of a token: how often it is met, its relation, the texts and the positions it comes from."""

    text: str
    met: int = 0
    relation: str = ""
    parents: list[str] = field(default_factory=list)
    sources: set[int] = field(default_factory=set)


def data_flow(root: Node, code: str) -> Counter[Flow]:
    """How often each flow is in the code whose tree is `root`; empty where there is none."""
    program = _Program(root, code.split("\n"))
    try:
        program.read(root)
    except _NoDataFlow:
        return Counter()
    _Reaching(program.entries).settle(program.steps)
    return Counter(_renamed(_connected(program.entries)))


def _connected(entries: dict[int, _Entry]) -> Iterator[_Entry]:
    """From left to right, what comes from a token or has one that comes from it."""
    used = {source for entry in entries.values() for source in entry.sources}
    return (entry for position, entry in sorted(entries.items()) if entry.sources or position in used)


def _renamed(entries: Iterable[_Entry]) -> Iterator[Flow]:
    names: dict[str, str] = {}
    for entry in entries:
        # Two that are put together lose what is there twice.
        parents = list(dict.fromkeys(entry.parents)) if entry.met > 1 else entry.parents
        for text in (*parents, entry.text):
            names.setdefault(text, f"var_{len(names)}")
        yield names[entry.text], entry.relation, tuple(names[text] for text in parents)


# ---- from a tree to steps ------------------------------------------------------------------------------------------

Step = Callable[["_Reaching"], None]
Part = Node | Step


class _Program:
    """A tree as one list of steps, in the order in which they happen, with the entries that they fill."""

    def __init__(self, root: Node, lines: Sequence[str]) -> None:
        self.steps: list[Step] = []
        self.entries: dict[int, _Entry] = {}
        self._parents = 0  # of all entries
        self._repeats = False  # whether a loop is around
        # Of tokens without extent in one place the last counts.
        leaves = enumerate(_leaves(root))
        self._tokens = {(leaf.start, leaf.end): _Token(at, _text(leaf.start, leaf.end, lines)) for at, leaf in leaves}

    def read(self, root: Node) -> None:
        """Take a tree; raises _NoDataFlow. With a stack of its own, for code may be nested deeply."""
        waiting: list[tuple[Part, bool]] = [(root, False)]
        while waiting:
            part, repeats = waiting.pop()
            if isinstance(part, Node):
                self._repeats = repeats = repeats or part.kind in _LOOPS
                waiting.extend((inner, repeats) for inner in reversed(self._parts(part)))
            else:
                self.steps.append(part)

    def _parts(self, node: Node) -> Sequence[Part]:
        """What a node is made of, in the order in which it happens."""
        if _is_token(node):
            return self._reading(node)
        rule = _RULES.get(node.kind)
        if rule:
            return rule(self, node)
        clauses = [child for child in node.children if child.kind == "for_in_clause"]
        return [*clauses, *(child for child in node.children if child.kind != "for_in_clause")]

    def _reading(self, node: Node) -> list[Part]:
        token = self._token(node)
        if node.kind == token.text:
            return []
        self._note(token, COMES_FROM, [])
        return [partial(_Reaching.read, token=token, is_name=node.kind == "identifier")]

    def of_assignment(self, node: Node) -> list[Part]:
        """Without a right side it is an annotation, and not looked at."""
        return self._assigning(_pairs(node)) if node.child("right") else []

    def of_for_in(self, node: Node) -> list[Part]:
        return self._assigning([(_needed(node, "left"), node.children[-1])])

    def of_for(self, node: Node) -> list[Part]:
        body = [child for child in node.children[-1:] if child.kind == "block"]
        return _repeated([*self._assigning(_pairs(node)), *body])

    def of_while(self, node: Node) -> list[Part]:
        return _repeated(node.children)

    def of_if(self, node: Node) -> list[Part]:
        """Clauses begin where the `if` began; condition and first block are one branch."""
        parts: list[Part] = [_Reaching.fork]
        for child in node.children:
            parts += [_Reaching.branch, child, _Reaching.end_branch] if child.kind in _CLAUSES else [child]
        complete = any("else" in child.kind for child in node.children)
        return [*parts, partial(_Reaching.join, complete=complete)]

    def of_default(self, node: Node) -> list[Part]:
        """A parameter comes from each token of its default."""
        value = node.child("value")
        targets = self._named(_needed(node, "name"))
        comes_from = [[source] for source in self._named(value)] if value else [[]]
        for target in targets:
            for sources in comes_from:
                self._note(target, COMES_FROM, sources)
        return [*([value] if value else []), partial(_Reaching.assign, tokens=targets)]

    def _assigning(self, pairs: Sequence[tuple[Node, Node]]) -> list[Part]:
        """All on the right is read before anything is assigned."""
        parts: list[Part] = [right for _, right in pairs]
        for left, right in pairs:
            targets, sources = self._named(left), self._named(right)
            for target in targets:
                self._note(target, COMPUTED_FROM, sources)
            parts.append(partial(_Reaching.assign, tokens=targets))
        return parts

    def _named(self, node: Node) -> list[_Token]:
        """The tokens inside a node that are no keywords or operators."""
        found = ((leaf, self._token(leaf)) for leaf in _leaves(node))
        return [token for leaf, token in found if leaf.kind != token.text]

    def _token(self, leaf: Node) -> _Token:
        token = self._tokens.get((leaf.start, leaf.end))
        if token is None:  # a part of a string
            raise _NoDataFlow
        return token

    def _note(self, token: _Token, relation: str, sources: Sequence[_Token]) -> None:
        self._parents += len(sources)
        if self._parents > _MOST_PARENTS:
            raise _NoDataFlow
        entry = self.entries.setdefault(token.position, _Entry(token.text))
        entry.met += 2 if self._repeats else 1
        entry.relation = relation
        entry.parents += [source.text for source in sources]
        entry.sources.update(source.position for source in sources)


_RULES: dict[str, Callable[[_Program, Node], list[Part]]] = {
    "assignment": _Program.of_assignment,
    "augmented_assignment": _Program.of_assignment,
    "default_parameter": _Program.of_default,
    "for_in_clause": _Program.of_for_in,
    "for_statement": _Program.of_for,
    "while_statement": _Program.of_while,
    "if_statement": _Program.of_if,
}


def _is_token(node: Node) -> bool:
    return node.kind == _WHOLE or not (node.children or node.kind == "comment")


def _leaves(root: Node) -> list[Node]:
    """The nodes that are tokens, from left to right."""
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if _is_token(node):
            found.append(node)
        else:
            waiting.extend(reversed(node.children))
    return found


def _text(start: Point, end: Point, lines: Sequence[str]) -> str:
    """The text between two points, without the ends of lines."""
    if start[0] == end[0]:
        return lines[start[0]][start[1] : end[1]]
    return "".join((lines[start[0]][start[1] :], *lines[start[0] + 1 : end[0]], lines[end[0]][: end[1]]))


def _needed(node: Node, name: str) -> Node:
    child = node.child(name)
    if child is None:
        raise _NoDataFlow
    return child


def _pairs(node: Node) -> list[tuple[Node, Node]]:
    """What is assigned to what: part by part where both sides have as many, otherwise the whole to the whole."""
    sides = _needed(node, "left"), _needed(node, "right")
    lefts, rights = ([part for part in side.children if part.kind != ","] for side in sides)
    return list(zip(lefts, rights, strict=True)) if lefts and len(lefts) == len(rights) else [sides]


def _repeated(parts: Sequence[Part]) -> list[Part]:
    loop = _Loop()
    return [partial(_Reaching.enter, loop=loop), *parts, partial(_Reaching.repeat, loop=loop)]


# ---- what reaches what ---------------------------------------------------------------------------------------------

State = dict[str, frozenset[int]]
"""For a text the positions that may have set it last, `_NOTHING` among them; what is not there is `_UNSET`."""

_NOTHING = -1
_UNSET = frozenset({_NOTHING})


@dataclass(eq=False)
class _Loop:
    """What the end of a loop brings back to its start."""

    carried: State = field(default_factory=dict)


@dataclass
class _Fork:
    """An `if`: what its clauses changed, and what was changed before the clause that is followed now."""

    ways: list[State] = field(default_factory=list)
    waiting: State = field(default_factory=dict)


class _Reaching:
    """Follows the steps of a program and notes which tokens each one that is read may come from."""

    def __init__(self, entries: dict[int, _Entry]) -> None:
        self._entries = entries
        # What is known lies in layers, the last one on top: every loop and every branch has its own.
        self._layers: list[State] = [{}]
        self._forks: list[_Fork] = []
        self._is_settled = False

    def settle(self, steps: Sequence[Step]) -> None:
        """Go through the steps until no loop brings anything new to its start.

        The package goes through every loop twice, and so 2 ** n times through n loops in one another. A third time
        brings nothing: what a body leaves of a text it leaves again. So all that reaches a token is the same here,
        found in about n times.
        """
        while not self._is_settled:
            self._is_settled = True
            self._layers = [{}]
            for step in steps:
                step(self)

    def _known(self, text: str) -> frozenset[int]:
        return next((layer[text] for layer in reversed(self._layers) if text in layer), _UNSET)

    def read(self, token: _Token, *, is_name: bool) -> None:
        """A token comes from what may have set its text; a name that may be unset is set by it."""
        known = self._known(token.text)
        found = known - _UNSET
        entry = self._entries[token.position]
        entry.sources |= found
        if found and token.text not in entry.parents:
            entry.parents.append(token.text)
        if is_name and _NOTHING in known:
            self._layers[-1][token.text] = found | {token.position}

    def assign(self, tokens: Iterable[_Token]) -> None:
        """Nothing that was known of these texts is left."""
        self._layers[-1].update((token.text, frozenset({token.position})) for token in tokens)

    def enter(self, loop: _Loop) -> None:
        """The body begins with what was before the loop, or with what its end brought back."""
        self._layers.append({text: self._known(text) | positions for text, positions in loop.carried.items()})

    def repeat(self, loop: _Loop) -> None:
        """The end of the body; that it never ran is not thought of."""
        layer = self._layers.pop()
        self._layers[-1].update(layer)
        if loop.carried != layer:
            loop.carried = layer
            self._is_settled = False

    def fork(self) -> None:
        """The `if` itself, whose condition and first block are a branch."""
        self._forks.append(_Fork())
        self._layers.append({})

    def branch(self) -> None:
        """An `elif` or `else` knows what was known before the `if`."""
        self._forks[-1].waiting = self._layers.pop()
        self._layers.append({})

    def end_branch(self) -> None:
        """Back to the first branch."""
        self._forks[-1].ways.append(self._layers.pop())
        self._layers.append(self._forks[-1].waiting)

    def join(self, *, complete: bool) -> None:
        """All ways meet; without an `else` one of them changes nothing."""
        ways = [*self._forks.pop().ways, self._layers.pop(), *([] if complete else [{}])]
        for text in {text for way in ways for text in way}:
            before = self._known(text)
            self._layers[-1][text] = frozenset().union(*(way.get(text, before) for way in ways))
