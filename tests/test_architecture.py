"""The shape of the package: imports run one way, files and functions stay small."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "driqa_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room may import the rooms of the lines below its own, never those of its own line or above it.
LEVELS = (
    ("cli",),
    ("protocol", "corpus", "serving"),
    ("reports",),
    ("train",),
    ("inference",),
    ("checkpoints", "evaluation"),
    ("data",),
    ("models", "losses", "degradations", "distributed"),
    ("provenance", "compile_cache", "progress"),
    ("io",),
    ("errors", "version"),
)
LINES = 26_021  # lower it whenever the package shrinks
# Upward imports that are allowed by name: the public package and the loss that wraps a whole model load what they need
# on first use, and the command line starts the package as a program.
ALLOWED = {("__init__", "inference"), ("losses", "inference"), ("__main__", "cli")}


def room(module: str) -> str:
    """`driqa_jax.models.driqa` -> `models`; a module directly in the package is a room."""
    return (module.split(".") + ["__init__"])[1]


def module_of(file: pathlib.Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def imports(file: pathlib.Path):
    """Every imported module of the package with its line, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "driqa_jax":
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield (full if full in MODULES else node.module), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names if name.name.split(".")[0] == "driqa_jax")


def test_every_room_has_a_level():
    rooms = {room(module) for module in MODULES} - {"__init__", "__main__"}
    assert rooms == {name for level in LEVELS for name in level}


def test_imports_run_one_way():
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    wrong = []
    for module, file in MODULES.items():
        here = room(module)
        for target, line in imports(file):
            there = room(target)
            if here == there or (here, there) in ALLOWED:
                continue
            if level.get(there, -1) <= level.get(here, -1):
                wrong.append(f"{file.relative_to(PACKAGE)}:{line} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    """No import circle, counting imports inside functions; those for type checkers alone do not count."""
    graph = {module: {target for target, _ in runtime_imports(file)} & set(MODULES) for module, file in MODULES.items()}
    done, path = set(), []

    def visit(module):
        if module in path:
            pytest.fail("import circle: " + " -> ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        path.append(module)
        for target in sorted(graph[module] - {module}):
            visit(target)
        path.pop()
        done.add(module)

    for module in sorted(graph):
        if room(module) not in ("__init__", "__main__"):
            visit(module)


def runtime_imports(file: pathlib.Path):
    tree = ast.parse(file.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {line for child in node.body for line in range(child.lineno, child.end_lineno + 1)}
    allowed = {target for here, target in ALLOWED if here == room(module_of(file))}
    return [(t, line) for t, line in imports(file) if line not in skipped and room(t) not in allowed]


def test_the_package_stays_small():
    assert sum(len(file.read_text().splitlines()) for file in FILES) <= LINES


def test_no_file_is_long():
    long = {str(f.relative_to(PACKAGE)): n for f in FILES if (n := len(f.read_text().splitlines())) > 350}
    assert not long


def test_few_files_are_crumbs():
    crumbs = [f for f in FILES if f.name != "__init__.py" and len(f.read_text().splitlines()) < 40]
    assert len(crumbs) <= 25, sorted(str(f.relative_to(PACKAGE)) for f in crumbs)


def test_no_function_is_longer_than_80_lines():
    long = [
        f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 80
    ]
    assert not long


def test_package_code_uses_no_mocks():
    assert not [file for file in FILES if "unittest.mock" in file.read_text()]
