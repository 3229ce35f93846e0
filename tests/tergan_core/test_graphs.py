"""Functions as CUDA graphs; on the CPU with a stand-in for the capture, which writes into the same memory each time."""

import numpy as np
import pytest
import torch

from tergan_core import FaceEditor, graphs, weights
from tergan_core.engine import _PARTS, CompiledEngine, export, load_engine
from tergan_core.errors import EngineError


def in_the_same_memory(call, device):
    outputs = call()

    def replay():
        for output, new in zip(outputs, call(), strict=True):
            output.copy_(new)
        return outputs

    return replay


def sums(first, second):
    return (first + second.amax((2, 3)), 2 * second)


@pytest.fixture
def graphed():
    seen = []

    def function(first, second):
        seen.append(len(first))
        return sums(first, second)

    return graphs.Graphed(function, largest=8, capture=in_the_same_memory), seen


def arguments(rows):
    generator = torch.Generator().manual_seed(rows)
    return torch.rand(rows, 3, generator=generator), torch.rand(rows, 3, 4, 4, generator=generator)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_any_number_of_rows_gives_what_the_function_gives(graphed):
    function, seen = graphed
    for rows in (1, 5, 3, 8, 2, 21, 0):
        with torch.inference_mode(rows % 2 == 0):
            assert same(function(*arguments(rows)), sums(*arguments(rows)))
    assert set(seen) == {1, 2, 4, 8}  # powers of two; 21 is 8 + 8 + 5


def test_results_outlive_the_next_call_and_the_next_part(graphed):
    function, _ = graphed
    first = function(*arguments(11))
    function(*arguments(10))
    assert same(first, sums(*arguments(11)))


def test_a_size_is_captured_once_and_the_smaller_ones_with_it():
    captured = []

    def capture(call, device):
        captured.append(len(call()[0]))
        return in_the_same_memory(call, device)

    function = graphs.Graphed(sums, capture=capture)
    for rows in (3, 4, 1, 3, 2):
        function(*arguments(rows))
    assert captured == [1, 2, 4]
    function(*arguments(6))
    assert captured == [1, 2, 4, 8]


def test_an_editor_of_graphs_gives_eagers_results(tiny_folder, tiny_editor, face_images):
    model = weights.load(tiny_folder)
    functions = {name: graphs.Graphed(part(model), 4, in_the_same_memory) for name, part in _PARTS.items()}
    editor = FaceEditor(CompiledEngine(model, functions))
    for faces in (face_images[:1], face_images[:5], face_images[1:3]):
        drawn = zip(editor.edit(faces, "fear"), tiny_editor.edit(faces, "fear"), strict=True)
        assert all(np.abs(one.image.astype(int) - other.image).max() <= 1 for one, other in drawn)
        read = zip(editor.recognize(faces), tiny_editor.recognize(faces), strict=True)
        assert all(one.probabilities == pytest.approx(other.probabilities, abs=1e-5) for one, other in read)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_and_a_folder_that_names_it_runs_eagerly(tiny_folder, tmp_path, caplog):
    with pytest.raises(EngineError, match="'cuda-graph' runs on a GPU, the model is on cpu; accepted: eager"):
        load_engine(tiny_folder, "cuda-graph")
    with pytest.raises(EngineError, match="there is none here"):
        export(tiny_folder, "cuda-graph", tmp_path / "graph")
    assert not (tmp_path / "graph").exists()
    folder = export(tiny_folder, "eager", tmp_path / "model")
    engine = {"name": "cuda-graph", "sha256": {}, "built_for": {}}
    weights.write_description(folder, {**weights.describe(folder), "engine": engine})
    assert isinstance(load_engine(folder), type(weights.load(folder)))
    assert "runs on a GPU" in caplog.text and "eager PyTorch is used" in caplog.text


@pytest.mark.gpu
def test_a_graph_gives_what_the_call_gives():
    faces = torch.rand(4, 3, device="cuda")
    replay = graphs.capture(lambda: faces * 2, faces.device)
    assert torch.equal(replay(), faces * 2)
    faces.add_(1)
    assert torch.equal(replay(), faces * 2)


@pytest.mark.gpu
def test_a_capture_that_fails_leaves_the_thread_on_its_stream():
    before = torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        graphs.capture(lambda: torch.rand(1, device="cuda").item(), torch.device("cuda"))
    assert torch.cuda.current_stream() == before


@pytest.mark.gpu
def test_on_a_gpu_an_exported_folder_draws_what_eager_draws(tiny_folder, tmp_path, face_images):
    folder = export(tiny_folder, "cuda-graph", tmp_path / "graph")
    ours, eager = FaceEditor.load(folder, device="cuda"), FaceEditor.load(tiny_folder, device="cuda")
    assert isinstance(ours.model, CompiledEngine)
    for faces in (face_images[:1], face_images[:5], face_images[1:3]):
        drawn = zip(ours.edit(faces, "fear"), eager.edit(faces, "fear"), strict=True)
        assert all(np.abs(one.image.astype(int) - other.image).max() <= 3 for one, other in drawn)
