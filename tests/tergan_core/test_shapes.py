import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_every_annotated_shape_holds_wherever_the_network_is_tested():
    """Runs the network's tests again with jaxtyping's import hook, which torch.compile could not see through."""
    files = [HERE / f"test_{room}.py" for room in ("model", "backbone", "discriminator", "losses", "pipeline")]
    hook = "--jaxtyping-packages=tergan_core,beartype.beartype"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "not slow and not gpu",
        "-p",
        "no:cacheprovider",
        hook,
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-3000:]
