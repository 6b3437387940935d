"""The fields of another library's settings, read from its source: to import it takes seconds, and a misspelt key should
be refused at once."""

import ast
import importlib.util
import typing
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any


class _Names(dict[str, Any]):
    """What annotations may name: `typing`'s own; anything else stands for any value, which is checked later."""

    def __missing__(self, name: str) -> Any:
        return Any


_KNOWN = {name: getattr(typing, name) for name in typing.__all__} | {"typing": typing}
_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (bool, bytes, dict, float, int, list, set, str, tuple)}


@cache
def outline(*places: str, leave_out: frozenset[str] = frozenset()) -> type[Any]:
    """A dataclass with the annotated fields of classes given as `package.module:Class`, the class itself first and then
    those that it inherits from. It bears the first one's name and is made to check values by, not to hold them."""
    found: dict[str, tuple[Any, Any]] = {}
    for place in reversed(places):
        module, _, name = place.partition(":")
        for node in _class(module, name).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = (_annotation(node.annotation), _description(node.value))
    fields = [(name, kind, how) for name, (kind, how) in found.items() if name not in leave_out]
    return make_dataclass(places[0].partition(":")[2], fields, kw_only=True)


def _class(module: str, name: str) -> ast.ClassDef:
    package, _, inner = module.partition(".")
    spec = importlib.util.find_spec(package)  # of the package alone: finding a module would import those around it
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed")
    path = Path(spec.submodule_search_locations[0], *inner.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text("utf-8"))
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def _annotation(node: ast.expr) -> Any:
    text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
    if text.startswith(("ClassVar", "typing.ClassVar")):
        return typing.ClassVar
    try:
        return eval(text, {"__builtins__": {}}, _Names(_KNOWN | _PLAIN | {"None": None}))
    except (TypeError, AttributeError):  # what stands in for an unknown name can't do what the name can
        return Any


def _description(value: ast.expr | None) -> Any:
    """The field's default and choices, where they are written out."""
    keywords: Mapping[str | None, ast.expr] = {}
    if isinstance(value, ast.Call):
        keywords = {k.arg: k.value for k in value.keywords}
        value = keywords.get("default")
    return field(default=_literal(value, None), metadata={"choices": _choices(keywords.get("metadata"))})


def _choices(metadata: ast.expr | None) -> Any:
    pairs = zip(metadata.keys, metadata.values, strict=True) if isinstance(metadata, ast.Dict) else ()
    found = [_literal(v, ()) for k, v in pairs if isinstance(k, ast.Constant) and k.value == "choices"]
    return found[0] if found else ()


def _literal(node: ast.expr | None, otherwise: Any) -> Any:
    try:
        found = ast.literal_eval(node) if node is not None else otherwise
    except ValueError:
        return otherwise
    return otherwise if isinstance(found, list | dict | set) and otherwise is None else found


__all__ = ["outline"]
