"""Tables, signatures, docstrings and schemas as Markdown, for the pages that tools/docs_pages.py makes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    cells = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def signature(name: str, function: Callable[..., Any]) -> str:
    """A signature without `self`, one argument a line where it is long."""
    found = inspect.signature(function)
    words: list[str] = []
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        if parameter.name != "self":
            words.append(argument(parameter))
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(words)}){result}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {word},\n" for word in words) + f"){result}"


def argument(parameter: inspect.Parameter) -> str:
    """One argument of a signature; annotations are text in this code base."""
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}: {parameter.annotation}{default}"


def documentation(member: Any) -> str:
    """A docstring as Markdown: its sections (Args, Raises) as lists."""
    lines = []
    for line in (inspect.getdoc(member) or "").splitlines():
        item = re.match(r"^ {4}(\*{0,2}\w+): (.*)", line)
        if re.match(r"^(Args|Raises|Returns|Attributes):$", line):
            lines += [f"*{line}*", ""]
        elif item:
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(re.sub(r"^ {8}", "  ", line))
    return "\n".join(lines).strip()


def fields(schema: type[BaseModel]) -> str:
    """A pydantic model: its docstring and a table of its fields."""
    rows = []
    for name, field in schema.model_fields.items():
        default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
        default = "defaults of its fields" if default.startswith(f"`{type(field.default).__name__}(") else default
        rows.append([f"`{name}`", type_name(field.annotation), default, field.description or ""])
    return f"## {schema.__name__}\n\n{documentation(schema)}\n\n{table(['field', 'type', 'default', 'meaning'], rows)}"


def type_name(annotation: Any) -> str:
    """A type as people write it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join("null" if a is type(None) else type_name(a) for a in arguments)
    if origin is dict:
        return f"{type_name(arguments[0])} to {type_name(arguments[1])}"
    if origin is tuple:
        inside = [type_name(a) for a in arguments if a is not Ellipsis]
        return f"list of {inside[0]}" if Ellipsis in arguments else f"{len(inside)} times {inside[0]}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {"Any": "any", "str": "text", "float": "number"}.get(annotation.__name__, annotation.__name__)
