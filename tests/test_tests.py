"""The tests' own rules: they share code through tests/support, and reach the product by its public names."""

import ast
import re

import pytest

from tests.support.paths import ROOT

IMPORTS_A_TEST = re.compile(r"\b(?:from|import)\s+tests[\w.]*(?:\.|\s+import\s+)test_\w+")
PATCHERS = {"setattr", "delattr", "patch", "object"}  # monkeypatch.setattr, mock.patch, mock.patch.object

MODULES = {str(path.relative_to(ROOT / "tests")): path.read_text() for path in (ROOT / "tests").rglob("*.py")}
by_module = pytest.mark.parametrize("name", sorted(MODULES))


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_names(code):
    """The private names that the code patches, imports from the product, or reaches through what it imports of it."""
    tree = ast.parse(code)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = {
        alias.asname or alias.name.partition(".")[0]
        for node in imports
        for alias in node.names
        if f"{getattr(node, 'module', alias.name)}.".startswith("raycifar.")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("raycifar."):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value).partition(".")[0]
            yield from [node.attr] if owner in ours else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in PATCHERS:
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
            yield from filter(is_private, names)


@by_module
def test_no_test_takes_anything_from_another_test_module(name):
    assert IMPORTS_A_TEST.findall(MODULES[name]) == []


@by_module
def test_no_test_patches_or_calls_a_private_name_of_the_product(name):
    assert list(private_names(MODULES[name])) == []


@pytest.mark.parametrize(
    "line", ["FROM TESTS.A.TEST_B IMPORT C", "IMPORT TESTS.A.TEST_B", "FROM TESTS.A IMPORT TEST_B"]
)
def test_an_import_from_a_test_module_would_be_found(line):
    assert IMPORTS_A_TEST.search(line.lower())


@pytest.mark.parametrize(
    "line",
    [
        'monkeypatch.setattr(a, "_b", 1)',
        'monkeypatch.setattr("raycifar.a._b", 1)',
        'patch.object(a, "_b")',
        "from raycifar.a import _b",
        "from raycifar import a\na._b()",
        "import raycifar.a\nraycifar.a._b",
    ],
)
def test_a_private_name_would_be_found(line):
    assert list(private_names(line)) == ["_b"]


def test_names_that_python_gives_and_those_of_other_packages_are_not_meant():
    assert list(private_names('monkeypatch.setattr(a, "__file__", 1)\nimport other\nother._b()')) == []
