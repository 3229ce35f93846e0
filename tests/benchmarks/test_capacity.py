import json

import pytest

from benchmarks import capacity, rows
from benchmarks.capacity import CapacityConfig, Machine, cpu_ms, estimate, network_cost
from tergan_core import TERGAN, ModelConfig

MACHINE = Machine("test", bf16_tflops=100, memory_gb_per_s=1000, cores=4, usd_per_hour=3.6)


def row(suite, cost, **case):
    return rows.row(suite, {"engine": "onnx", "model": "a", **case}, {"cpu_ms_per_image": cost}, {}, "cpu")


def test_an_estimate_is_the_roofline_at_the_assumed_shares_and_the_slower_side_decides(tmp_path):
    config = CapacityConfig(rows=tmp_path, share_of_peak=0.5, share_of_bandwidth=0.5)
    bound_by_operations = estimate(config, 5.0, 1.0, 1.0, MACHINE)
    assert (
        bound_by_operations["gpu_images_per_s"] == pytest.approx(10_000)
        and bound_by_operations["bound"] == "operations"
    )
    assert bound_by_operations["images_per_s"] == bound_by_operations["cpu_images_per_s"] == pytest.approx(4000)
    assert bound_by_operations["usd_per_million"] == pytest.approx(0.25)
    bound_by_memory = estimate(config, 0.001, 500.0, 0.1, MACHINE)
    assert bound_by_memory["images_per_s"] == pytest.approx(1000) and bound_by_memory["bound"] == "memory"


def test_operations_and_traffic_do_not_depend_on_the_batch_and_a_transfer_costs_most():
    model = TERGAN(
        ModelConfig(
            image_size=32, identity_backbone="test_resnet", expression_backbone="test_resnet", decoder_widths=(8, 16)
        )
    ).eval()
    few, many = network_cost(model, 2), network_cost(model, 6)
    for task in few:
        assert few[task] == pytest.approx(many[task], rel=0.05)
    assert few["transfer"] > few["edit"] > few["recognize"] > (0, 0)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_what_a_request_costs_beside_the_network_is_the_difference(tmp_path, capsys):
    found = [
        row("latency", 16.0, task="edit"),
        row("latency", 30.0, task="edit", engine="eager"),
        row("serving", 20.0, task="edit", server="torchserve"),
        row("serving", 2.0, task="edit", server="torchserve", model="b"),
        row("serving", 18.0, task="edit", server="direct"),
    ]
    assert cpu_ms(found, "a", "edit") == pytest.approx(4.0)
    with pytest.raises(ValueError, match="no row of benchmarks"):
        cpu_ms(found, "a", "recognize")
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, found)))
    assert capacity.main([str(path)]) == 1 and "no row of benchmarks" in capsys.readouterr().err
