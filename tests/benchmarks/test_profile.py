import importlib.util

import pytest

from benchmarks.profile import ProfileConfig, _by_operator, main


def test_the_time_of_kernels_is_summed_by_operator_without_the_first_runs():
    config = ProfileConfig(batch=2, repeats=2)
    events = [{"cat": "Session", "name": "run", "dur": 9e9}]
    for dur in (900, 900, 900, 4000, 8000):  # microseconds; three warm up
        events.append({"cat": "Node", "name": "a_kernel_time", "dur": dur, "args": {"op_name": "Conv"}})
    assert _by_operator(events, config) == {"Conv": pytest.approx(3.0)}


def test_each_function_is_profiled(tiny_folder, capsys):
    if importlib.util.find_spec("onnxscript") is None:
        pytest.skip("needs onnxscript")
    assert main(["--model", str(tiny_folder), "--batch", "1", "--repeats", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(f"| {function} | " in printed for function in ("encode_identity", "encode_expression", "draw"))
    assert "Conv" in printed
