"""Requests in, responses out, without a server: every way to ask, every bad input, and no 500 for anything."""

import base64
import io
import json
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tergan_core.errors import TerganError, UnsupportedMediaTypeError
from tergan_core.pipeline import FaceEditor
from tergan_core.serving import ERRORS, FIELDS, LIMITS, STAGES, Request, Service, choose_media_type, request_from_row


def png(seed=0, size=(70, 60), format="png"):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def bomb(width=40_000, height=40_000):
    """A PNG whose header promises 40,000 x 40,000 pixels and whose body is a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


GOOD = {
    "transfer": {"identity": png(1), "expression": png(2), "intensity": b"0.5"},
    "edit": {"image": png(1), "expression": b"happiness", "intensity": b"0.5"},
    "recognize": {"image": png(1)},
}


@pytest.fixture(scope="module")
def services(tiny_model):
    editor = FaceEditor(tiny_model)
    return {task: Service(editor, task) for task in FIELDS}


def as_json(fields):
    return json.dumps(
        {
            name: base64.b64encode(value).decode() if len(value) > 50 else value.decode()
            for name, value in fields.items()
        }
    ).encode()


def answer(service, fields, accept="*/*", content_type="multipart/form-data; boundary=x"):
    (response,) = service.handle([Request(fields, accept, content_type)])
    return response


def error(response):
    body = json.loads(response.body)
    assert response.content_type == "application/json"
    assert set(body) == {"code", "message", "field", "hint"}
    assert response.status == ERRORS[body["code"]][0]
    return response.status, body["code"], body["field"]


@pytest.mark.parametrize("task", ["transfer", "edit"])
def test_a_generated_face_comes_as_png_unless_another_type_is_wanted(services, task):
    for accept, content_type, kind in [
        ("*/*", "image/png", "PNG"),
        ("image/jpeg", "image/jpeg", "JPEG"),
        ("text/html, image/webp;q=0.9", "image/webp", "WEBP"),
    ]:
        response = answer(services[task], GOOD[task], accept)
        assert (response.status, response.phrase, response.content_type) == (200, "OK", content_type)
        picture = PIL.Image.open(io.BytesIO(response.body))
        size = services[task].editor.config.image_size
        assert (picture.format, picture.size) == (kind, (size, size))


def test_json_holds_the_same_picture_as_the_png(services):
    response = answer(services["edit"], GOOD["edit"], "application/json")
    body = json.loads(response.body)
    assert (body["task"], body["to"], body["intensity"]) == ("edit", "happiness", 0.5)
    assert base64.b64decode(body["image"]) == answer(services["edit"], GOOD["edit"]).body


def test_recognition_is_json_with_probabilities(services):
    body = json.loads(answer(services["recognize"], GOOD["recognize"]).body)
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert body["label"] == max(body["probabilities"], key=body["probabilities"].get)


@pytest.mark.parametrize("task", FIELDS)
def test_multipart_and_json_and_data_urls_give_the_same_answer(services, task):
    expected = answer(services[task], GOOD[task])
    assert expected.status == 200
    assert answer(services[task], {"body": as_json(GOOD[task])}, content_type="application/json") == expected
    with_url = as_json(GOOD[task]).replace(b'"iVBOR', b'"data:image/png;base64,iVBOR')
    assert answer(services[task], {"body": with_url}, content_type="application/json; charset=utf-8") == expected
    parsed = json.loads(as_json(GOOD[task]))
    assert answer(services[task], {"body": parsed}, content_type="application/json") == expected


def test_a_raw_body_takes_its_options_from_headers(services):
    row = {"body": bytearray(GOOD["edit"]["image"])}
    headers = {"X-Expression": "happiness", "X-Intensity": "0.5", "Content-Type": "image/png"}
    (response,) = services["edit"].handle([request_from_row(row, headers)])
    assert response == answer(services["edit"], GOOD["edit"])


def test_a_raw_body_needs_no_content_type(services):
    (response,) = services["recognize"].handle([request_from_row({"body": png(1)}, {})])
    assert response == answer(services["recognize"], GOOD["recognize"])


def test_header_names_are_read_in_any_case_and_field_headers_are_left_out():
    headers = {"ACCEPT": "image/webp", "content-Type": "image/png", "accept": {"content-type": "x"}}
    request = request_from_row({"body": b"x"}, headers)
    assert (request.accept, request.content_type) == ("image/webp", "image/png")


def test_a_batch_of_mixed_requests_is_one_forward_pass_and_equals_single_ones(services, tiny_model):
    service, batches = services["edit"], []
    names = [b"fear", b"happiness"] * 4
    fields = [
        {"image": png(i, (50 + 9 * i, 60)), "expression": name, "intensity": str(i / 8).encode()}
        for i, name in enumerate(names)
    ]
    accepts = ["image/png", "application/json"] * 4
    hook = tiny_model.decoder.to_pixels.register_forward_hook(
        lambda module, inputs, output: batches.append(len(output))
    )
    batch = service.handle([Request(f, a) for f, a in zip(fields, accepts, strict=True)])
    hook.remove()
    assert batches == [8]
    for together, one, accept in zip(batch, fields, accepts, strict=True):
        alone = answer(service, one, accept)
        assert (together.status, together.content_type) == (200, alone.content_type)
        assert np.abs(pixels(together).astype(int) - pixels(alone)).max() <= 1


def pixels(response):
    is_json = response.content_type == "application/json"
    body = base64.b64decode(json.loads(response.body)["image"]) if is_json else response.body
    return np.asarray(PIL.Image.open(io.BytesIO(body)))


BAD = [
    ("recognize", {"image": b"not an image"}, (422, "invalid_image", "image")),
    ("recognize", {"image": b""}, (422, "invalid_image", "image")),
    ("recognize", {"image": png()[:300]}, (422, "invalid_image", "image")),
    ("recognize", {"image": bomb()}, (413, "image_too_large", "image")),
    ("recognize", {}, (400, "missing_field", "image")),
    ("recognize", {"image": png(), "picture": png()}, (400, "invalid_request", "picture")),
    ("transfer", {"identity": png()}, (400, "missing_field", "expression")),
    ("transfer", {**GOOD["transfer"], "expression": b"x"}, (422, "invalid_image", "expression")),
    ("edit", {"image": png()}, (400, "missing_field", "expression")),
    ("edit", {**GOOD["edit"], "expression": b"hapiness"}, (422, "unknown_expression", "expression")),
    ("edit", {**GOOD["edit"], "expression": b"\xff"}, (400, "invalid_request", "expression")),
    ("edit", {**GOOD["edit"], "expression": b"x" * 10_000}, (400, "invalid_request", "expression")),
    ("edit", {"image": png(), "units": b'{"jawOpen": 9}'}, (422, "invalid_intensity", "units")),
    *(
        ("edit", {**GOOD["edit"], "intensity": value}, (422, "invalid_intensity", "intensity"))
        for value in (b"-0.1", b"9", b"nan", b"inf", b"much", b"", b"\xff")
    ),
]


@pytest.mark.parametrize(("task", "fields", "expected"), BAD)
def test_bad_fields_get_their_status_code_and_field(services, task, fields, expected):
    assert error(answer(services[task], fields)) == expected


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"image": 1}', b'{"image": null}', b'{"image": "!"}'),
        *(b'{"image": "\\ud800"}', b'{"image": ' + b"9" * 5000 + b"}"),
    ],
)
def test_bad_json_is_an_invalid_request(services, body):
    assert error(answer(services["recognize"], {"body": body}, content_type="application/json"))[:2] == (
        400,
        "invalid_request",
    )


@pytest.mark.parametrize("number", ["true", "[1]", "{}", "null", "1e999", "1" + "0" * 400])
def test_a_json_intensity_that_is_no_number_in_range_is_refused(services, number):
    body = as_json(GOOD["edit"]).replace(b'"0.5"', number.encode())
    assert error(answer(services["edit"], {"body": body}, content_type="application/json")) == (
        422,
        "invalid_intensity",
        "intensity",
    )


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "garbage", "image/"])
def test_other_content_types_are_unsupported(services, content_type):
    assert error(answer(services["recognize"], {"body": png()}, content_type=content_type))[0] == 415


def test_one_raw_picture_is_not_enough_for_a_transfer(services):
    response = answer(services["transfer"], {"body": png()}, content_type="image/png")
    assert error(response)[0] == 415 and b"multipart/form-data" in response.body


def test_an_accept_header_that_nothing_fits_is_unsupported(services):
    assert error(answer(services["edit"], GOOD["edit"], "text/html"))[0] == 415
    assert error(answer(services["recognize"], GOOD["recognize"], "image/png"))[0] == 415


def test_a_batch_is_counted_and_its_stages_add_up_to_its_time(services):
    seen = {}

    def observe(name, value, code=""):
        assert (name, code) not in seen
        seen[name, code] = value

    requests = [Request(GOOD["transfer"]), Request({**GOOD["transfer"], "identity": b"x"}), Request({})]
    start = time.perf_counter()
    services["transfer"].handle(requests, observe)
    total_ms = 1000 * (time.perf_counter() - start)
    stages = [seen.pop((f"{stage}_ms", "")) for stage in STAGES]
    assert all(stage > 0 for stage in stages) and 0.5 * total_ms < sum(stages) <= total_ms
    assert seen == {
        ("requests", ""): 3,
        ("faces", ""): 2,
        ("errors", "invalid_image"): 1,
        ("errors", "missing_field"): 1,
    }


def test_pictures_of_24_megapixels_are_served_and_those_over_the_limit_are_refused_by_their_header(services):
    phone = io.BytesIO()
    PIL.Image.new("RGB", (5712, 4284), "tan").save(phone, "jpeg")
    assert answer(services["recognize"], {"image": phone.getvalue()}).status == 200
    assert error(answer(services["recognize"], {"image": bomb(5001, 5000)})) == (413, "image_too_large", "image")


def test_formats_whose_decoders_strangers_need_not_reach_are_refused(services):
    for format in ("GIF", "BMP", "TIFF"):
        response = answer(services["recognize"], {"image": png(1, format=format)})
        assert error(response)[0] == 422 and b"accepted: PNG, JPEG, WEBP" in response.body


MEMORY = """
import re, sys
import numpy as np
from pathlib import Path
from tergan_core.images import face_tensor
from tergan_core.serving import LIMITS

def mib(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

data = Path(sys.argv[1]).read_bytes()
face_tensor(np.zeros((300, 300, 3), np.uint8), 96)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = mib("VmRSS")
assert face_tensor(data, 96, limits=LIMITS).shape == (3, 96, 96)
print(mib("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("format", LIMITS.formats)
def test_a_picture_at_the_limit_takes_no_more_memory_than_is_said(format, tmp_path):
    side = int(LIMITS.max_pixels**0.5)
    mode = "RGB" if format == "JPEG" else "RGBA"
    PIL.Image.new(mode, (side, side)).save(tmp_path / "bomb", format, **({} if format == "PNG" else {"quality": 50}))
    assert (tmp_path / "bomb").stat().st_size < 500_000
    command = [sys.executable, "-c", MEMORY, tmp_path / "bomb"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    # JPEG is decoded at an eighth of its sides.
    least, most = (0.05, 1) if format == "JPEG" else (8, 17)
    assert least < float(done.stdout) * 2**20 / LIMITS.max_pixels < most


def test_messages_name_the_field_and_not_the_place_in_the_batch(services):
    wrong = {**GOOD["edit"], "expression": b"hapiness"}
    message = json.loads(services["edit"].handle([Request(GOOD["edit"]), Request(wrong)])[1].body)["message"]
    assert message.startswith("expression is 'hapiness'") and "happiness" in message
    wrong = {"image": png(), "units": b'{"jawOpen": 9}'}
    message = json.loads(services["edit"].handle([Request(wrong)])[0].body)["message"]
    assert message.startswith("units['jawOpen'] is 9; accepted")


def test_media_types_are_weighed_as_http_says():
    offered = ["image/png", "image/jpeg", "application/json"]
    assert choose_media_type("image/*", offered) == "image/png"
    assert choose_media_type("image/png;q=0.1, */*;q=0.5", offered) == "image/jpeg"
    assert choose_media_type("*/*, image/png;q=0, image/jpeg;q=0", offered) == "application/json"
    with pytest.raises(UnsupportedMediaTypeError, match="offered: image/png"):
        choose_media_type("image/png;q=0", offered)


@pytest.mark.parametrize(
    "subclass", [c for c in TerganError.__subclasses__() if c.__module__.startswith("tergan_core")]
)
def test_every_error_that_a_client_can_cause_has_a_status(subclass):
    ours = {
        "invalid_config",
        "unknown_backbone",
        "weights_not_found",
        "weights_corrupt",
        "missing_extra",
        "missing_library",
        "engine_error",
        "server_error",
    }
    assert subclass.code in ours | {"invalid_code"} | set(ERRORS)


def test_a_bug_in_one_request_leaves_its_neighbours_alone(services, monkeypatch):
    service = services["recognize"]
    real = service.editor.recognize

    def breaks_on_black(faces, **options):
        if any(float(face.max()) == 0 for face in faces):
            raise RuntimeError("a bug")
        return real(faces, **options)

    monkeypatch.setattr(service.editor, "recognize", breaks_on_black)
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64)).save(file, "png")
    good, bad = Request({"image": png(1)}), Request({"image": file.getvalue()})
    statuses = [response.status for response in service.handle([good, bad, good])]
    assert statuses == [200, 500, 200]


anything = st.one_of(
    st.binary(max_size=200), st.text(max_size=50), st.none(), st.floats(), st.integers(), st.booleans()
)
anything_nested = st.recursive(
    anything, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
names = st.sampled_from(["identity", "expression", "intensity", "units", "image", "body"]) | st.text(max_size=10)
content_types = st.sampled_from(["multipart/form-data", "application/json", "image/png", ""]) | st.text(max_size=30)
json_bodies = anything_nested.map(lambda value: json.dumps(value, default=repr).encode())
damaged = st.builds(lambda data, cut: png(3)[:cut] + data, st.binary(max_size=60), st.integers(0, 4000))
rows = st.dictionaries(names, anything_nested | json_bodies | damaged, max_size=5)
headers = st.builds(
    lambda content_type, accept, more: {**more, "Content-Type": content_type, "Accept": accept},
    content_types,
    st.sampled_from(["*/*", "image/jpeg"]) | st.text(max_size=30),
    st.dictionaries(st.text(max_size=15), st.text(max_size=15) | st.dictionaries(st.text(), st.text()), max_size=2),
)


@pytest.mark.parametrize("task", FIELDS)
def test_random_requests_never_give_a_500_and_leave_their_neighbours_alone(services, task):
    service = services[task]
    good = Request(GOOD[task])
    alone = service.handle([good, good])

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(row=rows, header=headers)
    @example(row={"\\": []}, header={"Content-Type": "multipart/form-data"})
    def check(row, header):
        first, middle, last = service.handle([good, request_from_row(row, header), good])
        assert middle.status in (200, 400, 413, 415, 422)
        if middle.status != 200:
            error(middle)
        # One forward pass for two faces or three may differ in the last bit; a picture may not.
        assert (first.status, last.status) == (200, 200)
        if task == "recognize":
            wanted, got = (json.loads(r.body)["probabilities"] for r in (alone[0], first))
            assert got == pytest.approx(wanted, abs=1e-5)
        else:
            assert np.abs(pixels(first).astype(int) - pixels(alone[0])).max() <= 1

    check()


def test_an_edit_takes_weights_of_units_in_every_form_and_needs_them_or_an_expression(tiny_editor):
    service = Service(tiny_editor, "edit")
    weights = {"mouthSmile": 0.6, "jawOpen": 0.1}
    form = Request({"image": png(), "units": json.dumps(weights).encode()}, "application/json")
    body = json.dumps({"image": base64.b64encode(png()).decode(), "units": weights}).encode()
    whole = Request({"body": body}, "application/json", "application/json")
    header = request_from_row({"body": png()}, {"Content-Type": "image/png", "X-Units": json.dumps(weights)})
    drawn, again, third = service.handle([form, whole, header])
    assert drawn.status == again.status == third.status == 200
    value = json.loads(drawn.body)
    assert value["to"] == "0.6 mouthSmile + 0.1 jawOpen" and value == json.loads(again.body)
    bad = [b"[1]", b"{", b"{" * 3000, b'{"mouthSmil": 1}', b'{"jawOpen": NaN}', b'{"jawOpen": 9}', b"x" * 5000, b"{}"]
    answers = service.handle([Request({"image": png(), "units": units}) for units in bad])
    codes = [json.loads(answer.body)["code"] for answer in answers]
    assert codes == [
        "invalid_request", "invalid_request", "invalid_request", "unknown_unit",
        "invalid_intensity", "invalid_intensity", "invalid_request", "unknown_unit",
    ]  # fmt: skip
    (neither,) = service.handle([Request({"image": png()})])
    assert json.loads(neither.body)["code"] == "missing_field"
    long = {"image": base64.b64encode(png()).decode(), "units": {"x" * 5000: 0.5}}
    (answer,) = service.handle([Request({"body": json.dumps(long).encode()}, "application/json", "application/json")])
    assert json.loads(answer.body)["code"] == "invalid_request"


@pytest.mark.parametrize("name", ["units", "intensity", "expression"])
def test_deeply_nested_values_are_the_clients_fault(services, name):
    good = Request(GOOD["edit"])
    picture = json.dumps(base64.b64encode(png()).decode())
    for depth in range(600, sys.getrecursionlimit() + 50, 3):
        nested = "[" * depth + "]" * depth
        value = f'{{"jawOpen": {nested}}}' if name == "units" else nested
        form = Request({**GOOD["edit"], name: value.encode()})
        body = f'{{"image": {picture}, "expression": "fear", "{name}": {value}}}'.encode()
        answers = services["edit"].handle([form, good, Request({"body": body}, content_type="application/json")])
        statuses = [answer.status for answer in answers]
        assert statuses[1] == 200 and {statuses[0], statuses[2]} <= {400, 422}, depth
