"""Runs a notebook's cells as Jupyter's kernel does: one after the other, on one running event loop, with
``await`` at the top, the value of a cell's last expression shown. ``python -m tests.e2e.notebook FILE``
"""

import ast
import asyncio
import inspect
import json
import sys
from pathlib import Path
from types import CodeType
from typing import Any


async def run(cells: list[dict[str, Any]]) -> None:
    """Run all code cells and print what they show; the first exception ends it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            sys.stdout.write(f"In [{number}]\n")
            shown = await _cell("".join(cell["source"]), f"<cell {number}>", names)
            if shown is not None:
                sys.stdout.write(f"{shown!r}\n")


async def _cell(source: str, name: str, names: dict[str, Any]) -> Any:
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    await _evaluated(_compiled(tree, name), names)
    if not isinstance(last, ast.Expr):
        return None
    return await _evaluated(_compiled(ast.Expression(last.value), name), names)


def _compiled(tree: ast.Module | ast.Expression, name: str) -> CodeType:
    kind = "exec" if isinstance(tree, ast.Module) else "eval"
    code: CodeType = compile(tree, name, kind, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def _evaluated(code: CodeType, names: dict[str, Any]) -> Any:
    value = eval(code, names)
    return await value if code.co_flags & inspect.CO_COROUTINE else value


if __name__ == "__main__":
    asyncio.run(run(json.loads(Path(sys.argv[1]).read_text("utf-8"))["cells"]))
