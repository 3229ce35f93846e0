"""From the shipped weights to three served tasks and one picture of all of it: `python -m demo.run`, or `make demo`.

Packs the archives, starts TorchServe on loopback, sends real requests for people that the network never saw, draws
`demo/result.png` and stops what it started.
"""

import argparse
import io
import json
import os
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data

from demo.sheet import Sheet
from model_archives.build import STORE, build
from model_archives.server import FIXED_PORTS, TorchServe, curl_lines, stop_on_sigterm
from tergan_core import images, weights
from tergan_core.align import align_face
from tergan_core.engine import quickest
from tergan_core.errors import TerganError
from training.faces import PLAIN, FaceSet, peak_expression

FOLDER = Path(__file__).parent
INPUTS = FOLDER / "inputs"
INTENSITIES = (0, 0.25, 0.5, 0.75, 1)

ASTRONAUT_LANDMARKS = ((203.8, 100.5), (247.0, 103.0), (224.5, 126.3), (205.0, 141.5), (243.5, 142.0))
"""Eyes, nose tip and mouth corners in `skimage.data.astronaut()` (NASA, public domain), measured by hand."""

Faces = dict[str, bytes]
"""PNG files by the name that the sheet writes above them."""


class Client:
    """Sends requests as any HTTP client would; `python -m demo.run` prints the same as curl lines."""

    def __init__(self, server: TorchServe):
        self.server = server

    def post(self, task: str, **fields: bytes | str | float) -> bytes:
        """The body of the answer to one multipart request."""
        boundary = uuid.uuid4().hex
        body = b""
        for name, value in fields.items():
            file = '; filename="face.png"' if isinstance(value, bytes) else ""
            content = value if isinstance(value, bytes) else str(value).encode()
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
            body += head.encode() + content + b"\r\n"
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **self.server.headers}
        request = urllib.request.Request(
            f"{self.server.url}/predictions/{task}", body + f"--{boundary}--\r\n".encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def transfer(self, identity: bytes, expression: bytes) -> bytes:
        """A PNG file."""
        return self.post("transfer", identity=identity, expression=expression)

    def edit(self, image: bytes, expression: str, intensity: float) -> bytes:
        """A PNG file."""
        return self.post("edit", image=image, expression=expression, intensity=intensity)

    def recognize(self, image: bytes) -> dict[str, float]:
        """Probability of each expression."""
        return json.loads(self.post("recognize", image=image))["probabilities"]


def faces_to_show(size_px: int) -> Faces:
    """Procedural people of the test split, whom no training has seen, in a studio as in training, and a photograph."""
    people = FaceSet("test", size_px=size_px, variety=replace(PLAIN, yaw_degrees=12, pitch_degrees=6))
    shown = {
        label: images.encode(people.sample(index, 0, peak_expression(label)).image)
        for index, label in enumerate(("neutral", "happiness", "surprise", "anger"))
    }
    photo = align_face(skimage.data.astronaut(), ASTRONAUT_LANDMARKS, size_px)
    return {**shown, "photograph": images.encode(images.to_array(photo))}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Prints how long what is inside took."""
    start = time.perf_counter()
    yield
    print(f"{name:<46} {time.perf_counter() - start:6.1f} s", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default=weights.SHIPPED, help="a shipped model's name, a model folder or hf:owner/name"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "result.png", help="the picture to write")
    arguments = parser.parse_args()
    stop_on_sigterm()
    try:
        run(arguments.model, arguments.out)
    except (TerganError, OSError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def run(model: str, out: Path) -> None:
    """All steps, in order."""
    with step("pack three archives (kept if up to date)"):
        build(model, engine=quickest())
    config = weights.describe(model)["model"]
    with step("render people, align the photograph"):
        faces = faces_to_show(config["image_size"])
        for name, data in faces.items():
            path = INPUTS / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    calm, happy, surprised, angry, photo = faces.values()
    pairs = [(calm, happy), (angry, surprised), (happy, angry), (photo, surprised), (photo, angry), (calm, photo)]
    wishes = [
        (face, name, intensity) for face in (calm, photo) for name in config["expressions"] for intensity in INTENSITIES
    ]
    with serving() as client, ThreadPoolExecutor(8) as pool:
        with step(f"{len(pairs)} transfers"):
            transfers = list(pool.map(lambda pair: client.transfer(*pair), pairs))
        with step(f"{len(wishes)} edits"):
            edits = list(pool.map(lambda wish: client.edit(*wish), wishes))
        with step(f"{len(faces)} recognitions"):
            recognitions = list(pool.map(client.recognize, faces.values()))
    with step("draw the sheet"):
        draw(out, faces, recognitions, [[*pair, made] for pair, made in zip(pairs, transfers, strict=True)], edits)
    print(f"\nSee {out}. To ask the server yourself: make serve, and in another terminal:\n")
    inputs = (str(INPUTS / f"{name}.png") for name in ("neutral", "happiness"))
    print(curl_lines(f"http://127.0.0.1:{FIXED_PORTS[0]}", STORE / "key_file.json", *map(os.path.relpath, inputs)))


@contextmanager
def serving() -> Iterator[Client]:
    """A client of a server that runs inside the block."""
    with ExitStack() as stack:
        with step("start TorchServe, three workers"):
            server = stack.enter_context(TorchServe(STORE))
        yield Client(server)
        with step("stop TorchServe"):
            stack.close()


def draw(
    out: Path, faces: Faces, recognitions: list[dict[str, float]], triples: list[list[bytes]], edits: list[bytes]
) -> None:
    """Writes the contact sheet."""
    sheet = Sheet()
    sheet.title("Faces that the network never saw, and the expression that it recognizes")
    sheet.bars(list(faces), list(map(pixels, faces.values())), recognitions)
    sheet.title("Transfer: the person of the first face with the expression of the second")
    pictures = [pixels(face) for triple in triples for face in triple]
    sheet.rows(["identity", "expression", "output"] * 3, [pictures[:9], pictures[9:]], group=3)
    sheet.title("Edit: a person and an expression by name, intensity 0 to 1")
    names, count = list(recognitions[0]), len(INTENSITIES)
    strips = [list(map(pixels, edits[start : start + count])) for start in range(0, len(edits), count)]
    table = [strips[row] + strips[row + len(names)] for row in range(len(names))]
    sheet.rows([f"{intensity:g}" for intensity in INTENSITIES] * 2, table, names, group=count)
    sheet.save(out)


def pixels(file: bytes) -> np.ndarray:
    """The picture of a file."""
    return np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))


if __name__ == "__main__":
    main()
