import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tergan_core

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> set[str]:
    """Names of the files in a freshly built wheel."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob(f"tergan_core-{tergan_core.__version__}-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_holds_tergan_core_alone(names):
    top = {name.split("/")[0] for name in names}
    assert top == {"tergan_core", f"tergan_core-{tergan_core.__version__}.dist-info"}


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_its_weights(names):
    package = ROOT / "tergan_core"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names


@pytest.mark.slow
def test_the_wheel_holds_what_packing_needs(names):
    tasks = ("transfer", "edit", "recognize")
    needed = {f"handlers/{task}_handler.py" for task in tasks} | {f"{task}.yaml" for task in tasks}
    settings = {"config.properties", "log4j2.xml", "metrics.yaml", "openapi.json"}
    assert {f"tergan_core/archive/{name}" for name in needed | settings} <= names
