from benchmarks.training import TrainingConfig, measure


def test_every_part_and_every_term_of_a_step_has_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = measure(TrainingConfig(preset="smoke", batch=4, steps=2, people=2))
    figures = {entry["case"]["part"]: entry["figures"] for entry in rows}
    assert all(values["cpu_ms_per_image"] > 0 for values in figures.values())
    whole = figures["refining step"]["cpu_ms_per_image"]
    parts = ("data", "refining", "critic", "optimiser")
    assert abs(whole - sum(figures[part]["cpu_ms_per_image"] for part in parts)) < 1e-3 * whole
    costs = {"term_ms_per_image", "term_cpu_ms_per_image", "term_cpu_ms_per_image_iqr"}
    assert costs <= set(figures["refining without cross_cycle"])
