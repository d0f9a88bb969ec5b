"""Small automatic changes of a source: operators, axes, constants, dropped calls, exchanged names."""

import ast
import copy
import random
from collections.abc import Iterator

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Gt: ast.Lt,
    ast.Lt: ast.Gt,
    ast.GtE: ast.Lt,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
PARTNERS = {"z_a": "z_b", "p_a": "p_b", "logical_xor": "logical_or", "cat": "stack", "largest": "sorted"}
PARTNERS |= {new: old for old, new in PARTNERS.items()}
DROPPED = ("detach", "float", "exp", "log", "mean", "sum", "unsqueeze", "softmax", "log_softmax", "clamp")


def mutants(source: str, seed: int, count: int) -> list[tuple[str, str]]:
    """Up to `count` changed versions of a source, chosen by `seed`: (what changed, source)."""
    found = {}
    for what, tree in _all(ast.parse(source)):
        text = ast.unparse(ast.fix_missing_locations(tree))
        found.setdefault(text, what)
    found.pop(ast.unparse(ast.parse(source)), None)
    chosen = random.Random(seed).sample(sorted(found), min(count, len(found)))
    return [(found[text], text) for text in chosen]


def _all(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    for position, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[position]
            change(target)
            yield f"line {getattr(node, 'lineno', '?')}: {what}", _drop_marks(changed)


def _changes(node: ast.AST) -> Iterator[tuple[str, object]]:
    """What can be changed in one node: a description and a function that changes its copy in place."""

    def put(name: str, value: object) -> object:
        return lambda target: setattr(target, name, value)

    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _is_annotation(node):
        new = SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} -> {new.__name__}", put("op", new())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new = SWAPS[type(node.ops[0])]
        yield f"{type(node.ops[0]).__name__} -> {new.__name__}", put("ops", [new()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus dropped", put("op", ast.UAdd())
    if isinstance(node, ast.Constant) and type(node.value) in (bool, int, float):
        values = [not node.value] if isinstance(node.value, bool) else [node.value + 1, node.value * 2 + 3]
        values += [-node.value] if type(node.value) is float else []
        for value in values:
            yield f"{node.value} -> {value}", put("value", value)
    if isinstance(node, ast.Name) and node.id in PARTNERS and isinstance(node.ctx, ast.Load):
        yield f"{node.id} -> {PARTNERS[node.id]}", put("id", PARTNERS[node.id])
    if isinstance(node, ast.Attribute) and node.attr in PARTNERS:
        yield f".{node.attr} -> .{PARTNERS[node.attr]}", put("attr", PARTNERS[node.attr])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DROPPED:
        yield f".{node.func.attr}() dropped", put("instead", "object")
    if isinstance(node, ast.Call) and node.args:
        yield f"{ast.unparse(node.func)}(x) -> x", put("instead", "argument")
    if isinstance(node, ast.Call) and len(node.args) > 2:
        yield "last argument dropped", put("args", node.args[:-1])
    if isinstance(node, ast.Assign | ast.Expr) and not isinstance(node.value, ast.Constant):
        yield "statement dropped", put("instead", "nothing")


def _is_annotation(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr)


class _Replace(ast.NodeTransformer):
    """Puts what its mark says in place of a marked node."""

    def visit(self, node: ast.AST) -> ast.AST:
        self.generic_visit(node)
        instead = getattr(node, "instead", None)
        if instead == "object":
            return node.func.value
        if instead == "argument":
            return node.args[0]
        return ast.Pass() if instead == "nothing" else node


def _drop_marks(tree: ast.Module) -> ast.Module:
    return _Replace().visit(tree)
