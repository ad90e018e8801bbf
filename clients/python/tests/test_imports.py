"""The package's modules import each other in one direction, so that each can be read without those above it."""

from __future__ import annotations

import ast
import graphlib
import pathlib
from collections.abc import Iterator

import pytest

SOURCES = pathlib.Path(__file__).parents[1] / "src"


def modules_in(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The modules below a folder by name; a package's name is that of its ``__init__.py``."""
    names = {path: path.relative_to(folder).with_suffix("").parts for path in folder.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


def imported_by(name: str, path: pathlib.Path, modules: dict[str, pathlib.Path]) -> Iterator[str]:
    """The modules that one names, wherever in it: at the top, in a function, or for the type checkers only."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                # A package's module, or a name that the module itself has.
                found = f"{source}.{alias.name}"
                if found in modules or source in modules:
                    yield found if found in modules else source


def order_of(folder: pathlib.Path) -> list[str]:
    """The modules, each after those that it imports; raises CycleError where they import each other in a circle."""
    modules = modules_in(folder)
    graph = {name: set(imported_by(name, path, modules)) for name, path in modules.items()}
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_no_modules_import_each_other_in_a_circle() -> None:
    order = order_of(SOURCES)
    assert order.index("chatledger._convert") < order.index("chatledger._window") < order.index("chatledger.writer")
    assert order.index("chatledger.aio_writer") < order.index("chatledger.aio") < order.index("chatledger")


@pytest.mark.parametrize(
    "line",
    [
        "from .b import name",
        "from . import b",
        "import package.b",
        "from package import b",
        "def late():\n    from .b import name",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import name",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: pathlib.Path, line: str) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text(line)
    (package / "b.py").write_text("from .inner import c")
    (package / "inner" / "__init__.py").write_text("")
    (package / "inner" / "c.py").write_text("import json")
    assert order_of(tmp_path)[-1] == "package.a"
    (package / "inner" / "c.py").write_text("from .. import a")
    with pytest.raises(graphlib.CycleError):
        order_of(tmp_path)
