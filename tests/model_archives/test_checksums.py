import hashlib

import pytest

from model_archives import checksums
from model_archives.server import TorchServe
from tergan_core.errors import WeightsCorruptError


@pytest.fixture
def store(tmp_path):
    (tmp_path / "edit.mar").write_bytes(b"archive")
    checksums.write(tmp_path)
    return tmp_path


def test_sums_are_what_sha256sum_reads(store):
    assert (store / "SHA256SUMS").read_text() == f"{hashlib.sha256(b'archive').hexdigest()}  edit.mar\n"
    checksums.verify(store)


def test_a_changed_archive_is_refused_before_a_server_starts(store):
    (store / "edit.mar").write_bytes(b"Archive")
    with pytest.raises(WeightsCorruptError, match=r"edit\.mar .*model_archives\.build"), TorchServe(store):
        pass


def test_an_archive_that_is_missing_or_not_listed_is_refused(store):
    (store / "edit.mar").rename(store / "other.mar")
    with pytest.raises(WeightsCorruptError, match=r"edit\.mar, other\.mar"):
        checksums.verify(store)


def test_a_store_without_sums_is_taken_as_it_is(store):
    (store / "SHA256SUMS").unlink()
    checksums.verify(store)
