"""Syntax trees of Python code, which need not be right, and their sub-trees as CodeBLEU compares them.

Published CodeBLEU scores were computed with the grammar tree-sitter-python 0.21. Later grammars tell a few things in
other words, and what they tell is put back into the words of 0.21 here: code without syntax errors then has the tree
it had. Where code is wrong, two grammars may guess differently, and nothing can be done about that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from peftbench.errors import MissingExtra

if TYPE_CHECKING:
    from tree_sitter import TreeCursor

Point = tuple[int, int]
"""A row, and a column in bytes of UTF-8, both from 0."""


@dataclasses.dataclass(slots=True, eq=False)
class Node:
    """A node of a syntax tree.

    `kind` is the name of a rule of the grammar, or the keyword or operator itself; `field` is what the node is for its
    parent. `label` is what it is called in a sub-tree: None for keywords and operators, which sub-trees leave out.
    """

    kind: str
    label: str | None
    field: str | None
    start: Point
    end: Point
    children: list[Node] = dataclasses.field(default_factory=list)

    def child(self, name: str) -> Node | None:
        """The first child that is the field `name`."""
        return next((child for child in self.children if child.field == name), None)


def parse(code: str) -> Node:
    """The root of the tree of any text; what is no code becomes nodes of the kind ERROR.

    Raises MissingExtra without tree-sitter. Half of a surrogate pair is read as a question mark.
    """
    cursor = _cursor(code.encode("utf-8", "replace"))
    path: list[Node] = []
    for depth in _descent(cursor):
        del path[depth:]
        path.append(_node(cursor))
        if depth and not (path[-2].kind == "string_content" and _is_plain(cursor)):
            _attach(path)
    return path[0]


def subtrees(root: Node, numbers: dict[object, int]) -> list[int]:
    """A number for every sub-tree of more than a leaf, and for the root; equal numbers for equal sub-trees.

    Sub-trees are equal when their rules and fields are: names, literals, keywords and operators make no difference.
    `numbers` keeps what has been numbered, so that the sub-trees of several trees can be compared.
    """
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children)
    number: dict[Node, int] = {}
    # Children stand behind their parents; from the back they are numbered first.
    for node in reversed(nodes):
        inside = tuple((child.field, number[child]) for child in node.children if child.label is not None)
        number[node] = numbers.setdefault((node.label, inside), len(numbers))
    return [number[node] for node in nodes if node is root or node.children]


def _cursor(code: bytes) -> TreeCursor:
    try:
        import tree_sitter_python
        from tree_sitter import Language, Parser
    except ImportError:
        raise MissingExtra("tree-sitter-python", "train") from None
    return Parser(Language(tree_sitter_python.language())).parse(code).walk()


def _descent(cursor: TreeCursor) -> Iterator[int]:
    """Visit every node, parents before children, and tell how deep each lies; a loop, for code may be nested deeply."""
    depth = 0
    while True:
        yield depth
        if cursor.goto_first_child():
            depth += 1
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
            depth -= 1


def _node(cursor: TreeCursor) -> Node:
    found = cursor.node
    assert found is not None  # only a tree without a root has none
    label: str | None = found.type if found.is_named else None
    if found.is_missing or (found.is_error and not found.child_count):
        label = str(found)  # the token that had to be there, or the character that must not be
    return Node(found.type, label, cursor.field_name, found.start_point, found.end_point)


def _attach(path: list[Node]) -> None:
    """Give the last node of the path to its parent, the way the grammar 0.21 does."""
    parent, node = path[-2], path[-1]
    if parent.label is None:
        # `not in`: once two nodes of that name, now one with two words inside.
        node.kind, node.field = parent.kind, parent.field
        parent = path[-3]
        if parent.children[-1] is path[-2]:
            parent.children.pop()
    if (parent.kind, node.kind) == ("except_clause", "*") and parent.children[-1].end == node.start:
        parent.label = "except_group_clause"
    parent.children.append(node)


def _is_plain(cursor: TreeCursor) -> bool:
    r"""Whether a part of a string is mere text to the grammar 0.21: a lone backslash, an octal escape like `\0`."""
    found = cursor.node
    digits = (found.text or b"")[1:] if found else b""
    return found is None or not found.is_named or (digits.isdigit() and len(digits) < 3)
