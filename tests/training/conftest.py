import dataclasses

import pytest

from training.config import SMOKE, FacesConfig
from training.train import render


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The smoke preset with a rendered cache; its run folder is for each test to set."""
    cache = tmp_path_factory.mktemp("faces")
    faces = dataclasses.replace(SMOKE.faces, cache=str(cache))
    assert isinstance(faces, FacesConfig)
    config = dataclasses.replace(SMOKE, faces=faces)
    render(config)
    return config
