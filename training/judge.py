"""The judge: a classifier of expression and person that takes no part in training the network that it judges.

Its own backbone, its own seed, its own pool of expressions; it never sees a generated image. Train it once with
`python -m training.judge`; the result lies beside this file and is read by `training.evaluate`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from einops import reduce
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from tergan_core.backbone import Backbone
from training.data import Augmentation, Pairs
from training.faces import EXPRESSIONS, UNITS, write_pairs

PATH = Path(__file__).with_name("judge.safetensors")
SIZE_PX = 96
_PEOPLE, _SCENES, _POOL, _SEED = 600, 6, 1400, 1001


class Judge(nn.Module):
    """Logits over `EXPRESSIONS` and an embedding of the person, for faces of any size (resized to 96 px)."""

    def __init__(self, people: int = _PEOPLE):
        super().__init__()
        options = {"channels": [24, 48, 96, 192], "stem_width": 16}
        self.backbone = Backbone("resnet14t", image_size=SIZE_PX, standardize=True, options=options)
        width = self.backbone.channels[-1]
        self.expression = nn.Linear(width, len(EXPRESSIONS))
        self.embedding = nn.Linear(width, 128)
        self.person = nn.Linear(128, people, bias=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b 128"]]:
        """Expression logits and unit-length identity embedding."""
        if image.shape[-1] != SIZE_PX:
            image = F.interpolate(image, (SIZE_PX, SIZE_PX), mode="bilinear", antialias=True, align_corners=False)
        pooled = reduce(self.backbone(image)[-1], "b c h w -> b c", "mean")
        return self.expression(pooled), F.normalize(self.embedding(pooled))


def load() -> Judge:
    """The trained judge, in evaluation mode."""
    judge = Judge()
    judge.load_state_dict(load_file(PATH), strict=True)
    return judge.eval()


def train(
    images: int = 100_000, batch_size: int = 24, threads: int = 1, cache: str = "cache", workers: int = 1
) -> None:
    """Trains the judge and writes it beside this file.

    Args:
        images: images seen.
        batch_size: images per step.
        threads: CPU threads.
        cache: folder of rendered pairs.
        workers: processes that render.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(_SEED)
    folder = Path(cache) / f"judge-{_PEOPLE}x{_SCENES}"
    write_pairs(
        folder,
        split="train",
        people=_PEOPLE,
        scenes_per_person=_SCENES,
        pool_size=_POOL,
        size_px=SIZE_PX,
        seed=_SEED,
        workers=workers,
    )
    pairs, augment = Pairs(folder), Augmentation(UNITS)
    judge = Judge(len(pairs.people)).to(memory_format=torch.channels_last)
    steps = images // batch_size
    optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in tqdm(range(steps), desc="judge"):
        rng = np.random.default_rng((_SEED, step))
        batch = augment(pairs.draw(rng, batch_size, reconstructions=batch_size), [rng] * batch_size)
        logits, embedding = judge(batch.expression)
        cosine = judge.person.weight.div(judge.person.weight.norm(dim=1, keepdim=True))
        loss = F.cross_entropy(logits, batch.label) + F.cross_entropy(16 * embedding @ cosine.T, batch.person)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    save_file({key: value.contiguous() for key, value in judge.state_dict().items()}, PATH)


if __name__ == "__main__":
    sys.exit(tyro.cli(train))
