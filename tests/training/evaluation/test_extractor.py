import torch

from training.evaluation import extractor


def test_the_perceptual_distance_grows_with_blur_and_is_nothing_for_the_same_image():
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), 48, mode="bilinear")
    image = (coarse + 0.1 * torch.rand(1, 3, 48, 48)).clamp(0, 1)
    with torch.inference_mode():
        seen = [extractor.maps(torch.nn.functional.avg_pool2d(image, k, 1, k // 2)) for k in (1, 3, 7)]
        same, little, much = (float(extractor.perceptual_distance(seen[0], other)) for other in seen)
    assert same == 0
    assert 0 < little < much
    assert extractor.pooled(seen[0]).shape == (1, 320)
