"""Machine-readable notice in a picture file that it is generated: XMP, PNG text, and C2PA with your certificate.

The terms are those of the IPTC: https://cv.iptc.org/newscodes/digitalsourcetype/. A notice says what made a picture; it
is no proof, since anyone can remove it. The signature of C2PA shows who signed, and that nothing changed since.
"""

import importlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from .errors import ConfigError, InvalidImageError, MissingExtraError

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP = "http://ns.adobe.com/xap/1.0/"
_DESCRIPTION = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
_OURS = "https://arxiv.org/abs/1911.07050#"


@dataclass(frozen=True)
class Notice:
    """What the notice in a picture says.

    >>> Notice("edit").source_type.rpartition("/")[2]
    'trainedAlgorithmicMedia'
    """

    task: str
    """`transfer` or `edit`."""

    model: str = ""
    """Name, version and sha256 of the model, if known."""

    composite: bool = False
    """Whether the faces were pasted into a photograph."""

    software: str = "tergan-core"
    """What made the picture."""

    @property
    def source_type(self) -> str:
        """The IPTC's address for this kind of picture."""
        return SOURCE_TYPES + ("compositeWithTrainedAlgorithmicMedia" if self.composite else "trainedAlgorithmicMedia")

    def xmp(self) -> bytes:
        """The notice as an XMP packet."""
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
            f'xmlns:Iptc4xmpExt="{_IPTC}" xmlns:xmp="{_XMP}" xmlns:tergan="{_OURS}" '
            f"Iptc4xmpExt:DigitalSourceType={quoteattr(self.source_type)} xmp:CreatorTool={quoteattr(self.software)} "
            f"tergan:task={quoteattr(self.task)} tergan:model={quoteattr(self.model)}/>"
            '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
        ).encode()

    def save_options(self, format: str) -> dict[str, Any]:
        """What `PIL.Image.Image.save` needs to write the notice into a file of `format`."""
        source = f"{self.source_type} task={self.task} model={self.model}"
        if format == "gif":
            return {"comment": source}
        if format != "png":
            return {"xmp": self.xmp()}
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", self.xmp().decode())
        text.add_text("Software", self.software)
        text.add_text("Source", source)
        return {"pnginfo": text}


def inspect(path: str | Path) -> dict[str, Any] | None:
    """What the notice in a picture file says, or None if it has none; `c2pa` is the signed manifest, if there is one.

    Raises:
        InvalidImageError: the file is no picture.
        OSError: it cannot be read.
    """
    import PIL.Image

    data = Path(path).read_bytes()
    try:
        info = PIL.Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")).info
    except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
        raise InvalidImageError(f"{str(path)!r} is no picture that can be read; accepted: PNG, JPEG, WEBP.") from error
    found = described(info)
    manifest = _c2pa_manifest(data)
    return (found | ({"c2pa": manifest} if manifest else {})) or None


def described(info: dict[Any, Any]) -> dict[str, str]:
    """What the notice says, from the `info` of an opened PIL image; empty if there is none."""
    found: dict[str, str] = {}
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    try:
        text = xmp.decode() if isinstance(xmp, bytes) else str(xmp)
        # A picture of a stranger may declare entities, which expand without bound.
        tree = ElementTree.fromstring(text.strip("\0")) if text and "<!" not in text else None
    except (ElementTree.ParseError, UnicodeDecodeError):
        tree = None
    for node in tree.iter(_DESCRIPTION) if tree is not None else ():
        names = {
            "source_type": f"{{{_IPTC}}}DigitalSourceType",
            "software": f"{{{_XMP}}}CreatorTool",
            "task": f"{{{_OURS}}}task",
            "model": f"{{{_OURS}}}model",
        }
        found |= {key: node.attrib[name] for key, name in names.items() if name in node.attrib}
    return found


def sign(picture: bytes, notice: Notice, certificate: bytes, key: bytes, algorithm: str = "es256") -> bytes:
    """The file with a C2PA manifest signed by you.

    Args:
        picture: a PNG, JPEG or WebP file.
        certificate: the chain in PEM, yours first.
        key: its private key in PEM.
        algorithm: `es256`, `es384`, `ps256`, `ed25519` ..., as the key is.

    Raises:
        MissingExtraError: the package c2pa-python is not installed.
        c2pa.C2paError: the certificate is not one that C2PA accepts.
    """
    try:
        c2pa = importlib.import_module("c2pa")
    except ImportError as error:
        raise MissingExtraError("c2pa-python", "c2pa", "signing a picture") from error
    action = {
        "action": "c2pa.created",
        "digitalSourceType": notice.source_type,
        "softwareAgent": {"name": notice.software},
    }
    manifest = {
        "claim_generator_info": [{"name": notice.software}],
        "title": "generated picture",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": "org.tergan.notice", "data": asdict(notice)},
        ],
    }
    algorithms = {"es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"}
    if algorithm not in algorithms:
        raise ConfigError(f"algorithm is {algorithm!r}; accepted: {', '.join(sorted(algorithms))}.")
    info = c2pa.C2paSignerInfo(algorithm.encode(), certificate, key, None)
    source, target = io.BytesIO(picture), io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(manifest)) as builder:
        builder.sign(signer, _media_type(picture), source, target)
    return target.getvalue()


def _c2pa_manifest(data: bytes) -> dict[str, Any] | None:
    try:
        c2pa = importlib.import_module("c2pa")
        with c2pa.Reader(_media_type(data), io.BytesIO(data)) as reader:
            return json.loads(reader.json())
    except Exception:  # not installed, or no manifest, which c2pa tells by an error
        return None


def _media_type(picture: bytes) -> str:
    return "image/png" if picture[:4] == b"\x89PNG" else "image/webp" if picture[:4] == b"RIFF" else "image/jpeg"
