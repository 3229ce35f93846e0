"""Generated pictures say that they are; the oracle is the bytes of the file, and C2PA's own reader."""

import datetime
import json

import numpy as np
import pytest

from tergan_core import cli
from tergan_core.provenance import Notice, inspect, sign
from tergan_core.results import EditedPhoto, GeneratedFace

FACE = GeneratedFace(np.full((16, 16, 3), 99, np.uint8), "edit", "fear", 1.0, model="tiny 1 sha256:ab")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_every_saved_face_carries_the_notice_unless_told_not_to(tmp_path, suffix):
    path = FACE.save(tmp_path / f"face{suffix}")
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in path.read_bytes()
    found = inspect(path)
    assert (found["task"], found["model"], found["software"]) == ("edit", "tiny 1 sha256:ab", "tergan-core")
    bare = FACE.save(tmp_path / f"bare{suffix}", notice=False)
    assert b"digitalsourcetype" not in bare.read_bytes() and inspect(bare) is None


def test_a_photo_with_pasted_faces_is_a_composite_and_a_face_that_is_the_whole_photo_is_none(tmp_path):
    photo = np.zeros((32, 32, 3), np.uint8)
    path = EditedPhoto(photo, (FACE,), ((0, 0, 16, 16),)).save(tmp_path / "photo.png")
    assert inspect(path)["source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    whole = EditedPhoto(FACE.image, (FACE,), ((0, 0, 16, 16),)).save(tmp_path / "face.png")
    assert inspect(whole)["source_type"].endswith("/trainedAlgorithmicMedia")


def test_the_command_inspect_prints_the_notice(tmp_path, capsys):
    assert cli.main(["inspect", str(FACE.save(tmp_path / "face.png"))]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "edit"
    assert cli.main(["inspect", str(FACE.save(tmp_path / "bare.png", notice=False))]) == 1


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_signed_picture_holds_a_manifest_that_c2pa_reads(tmp_path, format):
    pytest.importorskip("c2pa")
    certificate, key = chain()
    path = tmp_path / f"signed.{format}"
    path.write_bytes(sign(FACE.encode(format), Notice("edit"), certificate, key))
    manifest = inspect(path)["c2pa"]
    assert "trainedAlgorithmicMedia" in json.dumps(manifest["manifests"][manifest["active_manifest"]])


def chain():
    """A certificate that C2PA accepts for signing, with its authority's, and its key, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, n), x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "t")]
        )
        for n in ("authority", "signer")
    ]
    now = datetime.datetime.now(datetime.UTC)
    made = []
    for index, is_authority in enumerate((True, False)):
        usage = dict.fromkeys(
            [
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ],
            False,
        )
        builder = (
            x509.CertificateBuilder(names[0], names[index], keys[index].public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=9))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not is_authority, key_cert_sign=is_authority, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[index].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
        )
        if not is_authority:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made[1] + made[0], pem
