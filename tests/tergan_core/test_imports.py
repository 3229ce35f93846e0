"""Who may import whom (HOUSE.md, section 1), and what importing costs."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tergan_core

PACKAGE = Path(tergan_core.__file__).parent
ROOT = PACKAGE.parent

BELOW_MODEL = {
    "errors",
    "config",
    "images",
    "backbone",
    "decoder",
    "discriminator",
    "losses",
    "align",
    "results",
    "provenance",
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "images": {"errors", "config", "provenance"},
    "align": {"errors", "config", "images"},
    "backbone": {"errors", "config"},
    "discriminator": {"errors", "config", "backbone"},
    "losses": {"errors", "config"},
    "decoder": {"errors", "config"},
    "results": {"errors", "config", "images", "provenance"},
    "model": BELOW_MODEL,
    "weights": BELOW_MODEL | {"model"},
    "graphs": set(),
    "engine": BELOW_MODEL | {"model", "weights", "graphs"},
    "pipeline": BELOW_MODEL | {"model", "weights", "engine"},
    "detect": {"errors"},
    "photo": BELOW_MODEL | {"model", "weights", "engine", "pipeline", "detect"},
    "packing": {"errors", "config", "weights", "open_inference", "serving"},
    "open_inference": {"errors"},
    "serving": BELOW_MODEL | {"model", "weights", "pipeline", "open_inference"},
    "torchserve": {"serving"},
    "provenance": {"errors"},
    "client": {"errors", "images", "provenance", "results"},
    "batch": {"errors", "images", "weights", "serving"},
    "ray_serve": {"batch", "errors", "weights", "serving"},
    "cli": BELOW_MODEL | {"model", "weights", "pipeline", "packing", "serving", "photo", "engine", "provenance"},
}
CLONE_ONLY = {"handlers", "model_archives", "training", "benchmarks", "tests"}


def imported(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, f"{path}: the package is flat"
            names |= {f"tergan_core.{node.module or alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "tergan_core":
            names |= {f"tergan_core.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_what_lies_below_them(module):
    names = imported(PACKAGE / f"{module}.py")
    siblings = {name.split(".")[1] for name in names if name.startswith("tergan_core.")}
    assert siblings <= MAY_IMPORT[module]
    assert not {name.split(".")[0] for name in names} & CLONE_ONLY


def test_the_table_of_imports_has_no_cycle():
    order: list[str] = []
    while len(order) < len(MAY_IMPORT):
        free = [name for name, below in MAY_IMPORT.items() if name not in order and below <= set(order)]
        assert free
        order += free


@pytest.mark.parametrize("statement", ["import tergan_core", "import tergan_core.cli", "import tergan_core.errors"])
def test_importing_is_light(statement):
    heavy = "{'torch', 'timm', 'numpy', 'PIL', 'huggingface_hub'} & set(sys.modules)"
    python(f"import sys; {statement}; assert not {heavy}, {heavy}")


def test_help_answers_within_a_second():
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tergan_core.cli", "--help"], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def test_public_names_are_there_and_listed():
    assert 10 <= len(tergan_core.__all__) <= 15
    for name in tergan_core.__all__:
        assert getattr(tergan_core, name).__doc__
        assert name in dir(tergan_core)
    with pytest.raises(AttributeError, match="no attribute 'Editor'"):
        _ = tergan_core.Editor


def test_public_names_are_declared_to_type_checkers():
    source = (PACKAGE / "__init__.py").read_text()
    declared = {
        alias.asname for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared - {None} == set(tergan_core.__all__)


def python(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
