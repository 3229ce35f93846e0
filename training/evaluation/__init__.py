"""What `training.evaluate` measures, a module per concern.

| module | concern |
|---|---|
| `measures` | figures by formula: SSIM, KID, calibration error, linear probes |
| `extractor` | the ImageNet network behind the perceptual distance and the KID |
| `readers` | networks that nobody here trained, reading faces |
| `transfer`, `edit`, `recognition`, `leakage` | the three tasks, and what the two codes give away |
| `photographs` | all three tasks on photographs |
| `report` | Markdown and plots |
"""
