import dataclasses

from benchmarks.training import TrainingConfig, measure
from training.config import PRESETS


def test_every_part_and_every_term_of_a_step_has_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = measure(TrainingConfig(preset="smoke", batch=4, steps=2, people=2))
    figures = {entry["case"]["part"]: entry["figures"] for entry in rows}
    assert all(values["cpu_ms_per_image"] > 0 for values in figures.values())
    whole = figures["refining step"]["cpu_ms_per_image"]
    cost = {name: values["cpu_ms_per_image"] for name, values in figures.items()}
    critic = 7 / 8 * cost["critic"] + cost["critic with R1"] / 8
    assert abs(whole - critic - cost["data"] - cost["refining"] - cost["optimiser"]) < 1e-3 * whole
    costs = {"term_ms_per_image", "term_cpu_ms_per_image", "term_cpu_ms_per_image_iqr"}
    assert costs <= set(figures["refining without cross_cycle"]) & set(figures["refining with critic_identity"])


def test_a_preset_without_face_units_is_measured_with_its_own_terms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paper = dataclasses.replace(PRESETS["smoke"], model=dataclasses.replace(PRESETS["smoke"].model, units=()))
    paper = dataclasses.replace(paper, weights=PRESETS["paper"].weights)
    monkeypatch.setitem(PRESETS, "units-less", paper)
    parts = {
        entry["case"]["part"] for entry in measure(TrainingConfig(preset="units-less", batch=4, steps=1, people=2))
    }
    assert "refining with paired_swap" in parts and not any("unit_regression" in part for part in parts)
