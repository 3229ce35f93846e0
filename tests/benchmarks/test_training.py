from benchmarks.training import TrainingConfig, measure


def test_a_training_step_has_a_row_and_leaves_the_folder_alone(tiny_folder):
    before = (tiny_folder / "model.safetensors").read_bytes()
    (entry,) = measure(TrainingConfig(model=str(tiny_folder), batches=(2,), steps=2))
    assert entry["suite"] == "training" and entry["figures"]["cpu_ms_per_image"] > 0
    assert (tiny_folder / "model.safetensors").read_bytes() == before
