"""Bodies of the Open Inference Protocol: the official client's bodies are read, random ones never give a 500."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tergan_core import serving
from tergan_core.images import encode
from tergan_core.open_inference import DATATYPES, HEADER_LENGTH
from tergan_core.pipeline import FaceEditor
from tergan_core.serving import FIELDS, Service, request_from_row


@pytest.fixture(scope="module")
def services(tiny_model):
    editor = FaceEditor(tiny_model)
    return {task: Service(editor, task, "1.2") for task in FIELDS}


def tensor(name, array, datatype, binary=True):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def ask(service, inputs, outputs=(), parameters=None, **headers):
    """The service's response to a body that tritonclient makes."""
    body, length = triton.InferenceServerClient.generate_request_body(
        inputs, [triton.InferRequestedOutput(name) for name in outputs] or None, parameters=parameters
    )
    if length is not None:
        headers[HEADER_LENGTH] = str(length)
    (response,) = service.handle([request_from_row({"body": body}, {"Host": "x", **headers})])
    return response


def arrays(response):
    assert response.status == 200, response.body
    length = response.headers.get("Inference-Header-Content-Length")
    return triton.InferenceServerClient.parse_response_body(response.body, header_length=length and int(length))


def objects(*values):
    return np.array([[value] for value in values], np.object_)


def test_files_and_pixels_of_one_picture_give_the_librarys_result(services, face_image):
    service = services["edit"]
    options = [tensor("expression", objects(b"fear"), "BYTES"), tensor("intensity", np.float32([[0.5]]), "FP32")]
    expected = service.editor.edit(face_image, "fear", 0.5).image
    for picture in (
        tensor("image", objects(encode(face_image)), "BYTES"),
        tensor("image_pixels", face_image[None], "UINT8"),
    ):
        result = arrays(ask(service, [picture, *options], ["image", "image_pixels"]))
        assert (result.as_numpy("image_pixels")[0] == expected).all()
        assert (np.asarray(PIL.Image.open(io.BytesIO(result.as_numpy("image")[0, 0]))) == expected).all()


def test_several_pictures_are_several_items_and_a_single_option_holds_for_all(services, face_images):
    pictures = tensor("image", objects(*map(encode, face_images[:3])), "BYTES")
    result = arrays(ask(services["edit"], [pictures], ["image_pixels"], {"expression": "anger"}))
    expected = services["edit"].editor.edit(face_images[:3], "anger")
    for got, wanted in zip(result.as_numpy("image_pixels"), expected, strict=True):
        assert np.abs(got.astype(int) - wanted.image).max() <= 1


def test_a_picture_for_all_items_is_read_once(services, face_image, monkeypatch):
    read = []
    monkeypatch.setattr(serving, "face_tensor", lambda image, *_, **__: read.append(image) or torch.zeros(3, 32, 32))
    picture = objects(encode(face_image))
    inputs = [tensor("identity", picture, "BYTES"), tensor("expression", picture, "BYTES")]
    inputs.append(tensor("intensity", np.zeros([64, 1], np.float32), "FP32"))
    assert arrays(ask(services["transfer"], inputs, ["image_pixels"])).as_numpy("image_pixels").shape[0] == 64
    assert len(read) == 2


def test_pictures_that_take_too_long_to_read_are_refused_by_their_headers(services, monkeypatch):
    large = encode(np.zeros((5000, 4000, 3), np.uint8), "webp")
    monkeypatch.setattr(serving, "face_tensor", lambda *_, **__: pytest.fail("none should be read"))
    response = ask(services["recognize"], [tensor("image", objects(*[large] * 3), "BYTES")])
    assert response.status == 413 and b"the 3 pictures have more than 50000000 pixels" in response.body


def test_recognition_gives_numbers(services, face_image):
    result = arrays(ask(services["recognize"], [tensor("image_pixels", face_image[None], "UINT8", binary=False)]))
    expected = services["recognize"].editor.recognize(face_image)
    assert result.as_numpy("label")[0, 0] == expected.label.encode()
    assert result.as_numpy("probabilities")[0] == pytest.approx(list(expected.probabilities.values()), abs=1e-5)


def test_the_option_accept_chooses_the_kind_of_file(services, face_image):
    inputs = [tensor("image", objects(encode(face_image)), "BYTES")]
    result = arrays(ask(services["edit"], inputs, ["image"], {"expression": "fear", "accept": "image/webp"}))
    assert PIL.Image.open(io.BytesIO(result.as_numpy("image")[0, 0])).format == "WEBP"


def test_an_error_says_what_the_official_client_shows(services):
    response = ask(services["recognize"], [tensor("image", objects(b"broken"), "BYTES")])
    body = json.loads(response.body)
    assert response.status == 422 and body["code"] == "invalid_image"
    assert body["error"].startswith("[invalid_image] ")


def test_without_any_header_bytes_are_base64_and_an_error_is_an_output(services, face_image):
    def body(picture):
        data = base64.b64encode(picture).decode()
        return json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [data]}]}).encode()

    rows = [request_from_row({"body": body(picture)}, {}) for picture in (encode(face_image), b"broken")]
    good, bad = services["recognize"].handle(rows)
    assert (good.status, bad.status) == (200, 200)
    assert json.loads(good.body)["outputs"][0]["name"] == "label"
    (output,) = json.loads(bad.body)["outputs"]
    assert output["name"] == "error" and output["data"][0].startswith("[invalid_image] ")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
names = st.sampled_from(["image", "image_pixels", "identity", "expression", "intensity", "units", "accept"]) | st.text(
    max_size=5
)
entries = st.fixed_dictionaries(
    {"name": names, "shape": st.lists(st.integers(0, 3), max_size=5) | values},
    optional={
        "datatype": st.sampled_from(list(DATATYPES)) | values,
        "data": st.lists(values, max_size=4) | values,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30) | values}) | values,
    },
)
bodies = st.fixed_dictionaries(
    {"inputs": st.lists(entries, max_size=3) | values},
    optional={"outputs": st.lists(entries | values, max_size=2) | values, "id": values, "parameters": values},
)


def test_random_requests_never_give_a_500(services):
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(list(FIELDS)), bodies, st.binary(max_size=40), st.integers(-2, 2), st.booleans())
    def check(task, value, tail, shift, grpc):
        head = json.dumps(value).encode()
        headers = {} if grpc else {HEADER_LENGTH: str(len(head) + shift)}
        row = {"body": head if grpc else head + tail}
        (response,) = services[task].handle([request_from_row(row, headers)])
        assert response.status in ((200,) if grpc else (200, 400, 413, 415, 422))
        json.loads(response.body)

    check()
