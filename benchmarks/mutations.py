"""Lists the small mistakes that can be put into a Python file, and makes them.

The operators are cosmic-ray's, with a few of our own for mistakes that it does not make.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import Keyword, Name

Span = tuple[tuple[int, int], tuple[int, int]]

# Of the replacements of an operator, the ones nearest to a slip of the pen.
COSMIC_RAY = (
    *("NumberReplacer", "ExceptionReplacer", "ZeroIterationForLoop"),
    *(f"Replace{pair}" for pair in ("TrueWithFalse", "FalseWithTrue", "AndWithOr", "OrWithAnd")),
    *(f"Replace{pair}" for pair in ("BreakWithContinue", "ContinueWithBreak")),
    *(f"ReplaceUnaryOperator_Delete_{sign}" for sign in ("Not", "USub")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("IsNot_Is", "Lt_LtE", "LtE_Lt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Gt_GtE", "GtE_Gt")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("FloorDiv_Mul", "Mod_Mul", "Pow_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitOr_BitAnd", "BitAnd_BitOr")),
)
# Arguments that are left alone: the words of argparse, and `zip`'s check that nobody should meet.
LEFT_ALONE = ("help", "description", "epilog", "metavar", "usage", "strict")


class DropStatement(Operator):
    """Leaves out a call, a raise, or an assignment that changes something that is there already.

    Without the assignment of a new name the next use of it is an error that everyone sees.
    """

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type == "simple_stmt" and self._matters(node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def _matters(self, statement: Any) -> bool:
        if statement.type == "expr_stmt" and statement.children[1].type != "annassign":
            target, sign, value = statement.children[:3]
            names: list[Any] = [node for node in ast_nodes(value) if isinstance(node, Name)]
            read = {name.value for name in names if name.parent.type not in ("trailer", "argument")}
            function = statement.search_ancestor("funcdef")
            changed = target.type == "atom_expr" and function and function.name.value != "__init__"
            return bool(changed or sign != "=" or target.get_code().strip() in read)
        called = statement.type == "atom_expr" and statement.children[-1].children[0] == "("
        return called or statement.type == "raise_stmt"

    def mutate(self, node: Any, index: int) -> Any:
        old = node.children[0]
        node.children[0] = Keyword("pass", old.start_pos, old.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> tuple:
        return ()


class DropArgument(DropStatement):
    """Leaves out a keyword argument of a call: its default is used."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        if node.type in ("arglist", "trailer"):
            for child in self._keywords(node):
                yield child.start_pos, child.end_pos

    def _keywords(self, node: Any) -> list[Any]:
        arguments = [child for child in node.children if child.type == "argument"]
        return [
            child
            for child in arguments
            if child.children[1] == "=" and child.children[0].value not in LEFT_ALONE
        ]

    def mutate(self, node: Any, index: int) -> Any:
        place = node.children.index(self._keywords(node)[index])
        following = node.children[place + 1 : place + 2]
        del node.children[place : place + 1 + (following == [","])]
        return node


class NegateCondition(DropStatement):
    """Turns a condition round: of `if`, `elif`, `while`, of an expression or a comprehension."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        for place in self._places(node):
            yield node.children[place].start_pos, node.children[place].end_pos

    def _places(self, node: Any) -> list[int]:
        if node.type not in (
            "if_stmt",
            "while_stmt",
            "ternary",
            "test",
            "comp_if",
            "sync_comp_for",
        ):
            return []
        places = [i + 1 for i, c in enumerate(node.children[:-1]) if c in ("if", "elif", "while")]
        return [place for place in places if not self._turned_by_others(node.children[place])]

    def _turned_by_others(self, condition: Any) -> bool:
        """Returns whether cosmic-ray's operators make the same mistake: `not x`, `x == y`."""
        sign = condition.children[1].get_code().strip() if condition.type == "comparison" else ""
        return condition.type == "not_test" or sign in ("==", "!=", "is", "is not")

    def mutate(self, node: Any, index: int) -> Any:
        place = self._places(node)[index]
        code = node.children[place].get_code(include_prefix=False)
        node.children[place] = parso.parse(f" (not ({code}))")
        return node


class SwapMinMax(DropStatement):
    """Takes the largest instead of the smallest."""

    def mutation_positions(self, node: Any) -> Iterator[Span]:
        called = node.children[0].get_code().strip() if node.type == "atom_expr" else ""
        if called in ("min", "max"):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[0].value = {"min": "max", "max": "min"}[node.children[0].value]
        return node


OURS = (DropStatement, DropArgument, NegateCondition, SwapMinMax)


def left_out(tree: ast.Module) -> list[Span]:
    """Returns the spans where a change does not matter: types, messages, logging, decorators."""
    spans = []
    for node in ast.walk(tree):
        parts: list[Any] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            parts = [*node.decorator_list, getattr(node, "returns", None)]
            parts += getattr(node, "keywords", [])  # `total=False` of a TypedDict
            parts += [node] if node.name == "__repr__" else []
        elif isinstance(node, ast.Raise):
            parts = [node.exc]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            words = ast.unparse(node.value.func).split(".")
            parts = [node] if {"logger", "warnings", "warn", "print"} & set(words) else []
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            parts = [node]
        elif isinstance(node, ast.keyword) and node.arg in LEFT_ALONE:
            parts = [node.value]
        spans += [
            ((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset))
            for part in parts
            if part is not None
        ]
    return spans


@dataclass(frozen=True)
class Mutant:
    """One mistake in one file."""

    file: str
    source: str
    operator: type[Operator]
    occurrence: int
    line: int

    @cached_property
    def code(self) -> str | None:
        """The file with the mistake; None where it is no Python, or the same program."""
        code = mutate_code(self.source, self.operator(), self.occurrence)
        try:
            same = ast.dump(ast.parse(code)) == ast.dump(ast.parse(self.source))
        except SyntaxError:
            return None
        return None if same else code

    @cached_property
    def change(self) -> tuple[str, str]:
        """What the changed lines were, and what they are; without the line breaks."""
        old, new = self.source.splitlines(), (self.code or "").splitlines()
        lines = list(unified_diff(old, new, n=0, lineterm=""))[2:]
        before, after = (
            " ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+"
        )
        return before, re.sub(r"(?<=[\[(]) +|(?<= ) +", "", after)


def find_mutants(file: str, source: str) -> list[Mutant]:
    """Returns the mutants of a file, in the order of operators and places."""
    spans = left_out(ast.parse(source))
    cosmic_ray = OperatorProvider()
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for operator in (*(cosmic_ray[name] for name in COSMIC_RAY), *OURS):
        positions = [at for node in nodes for at in operator().mutation_positions(node)]
        found += [
            Mutant(file, source, operator, occurrence, start[0])
            for occurrence, (start, end) in enumerate(positions)
            if not any(first <= start and end <= last for first, last in spans)
        ]
    return found
