"""Sample grids: what the network does, to be looked at."""

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw

from tergan_core.model import TERGAN
from training.data import Batch


@torch.inference_mode()
def transfer_grid(model: TERGAN, batch: Batch, columns: int = 3) -> Image.Image:
    """Groups of four: identity image, expression image, output, true image; `columns` groups in a row."""
    output = model.transfer(identity=batch.identity, expression=batch.expression)
    groups = torch.stack([batch.identity, batch.expression, output, batch.truth], dim=1).cpu()
    groups = groups[: len(groups) // columns * columns]
    return _with_header(
        rearrange(groups, "(r g) four c h w -> (r h) (g four w) c", g=columns),
        ["identity", "expression", "output", "truth"] * columns,
        model.config.image_size,
    )


@torch.inference_mode()
def edit_grid(model: TERGAN, faces: torch.Tensor, intensity: float = 1.0) -> Image.Image:
    """A row per face: the face itself, then every expression of the model."""
    names = model.config.expressions
    b, k = len(faces), len(names)
    repeated = faces.repeat_interleave(k, dim=0)
    edited = model.edit(repeated, torch.arange(k, device=faces.device).repeat(b), intensity)
    rows = torch.cat([faces[:, None], rearrange(edited, "(b k) c h w -> b k c h w", k=k)], dim=1).cpu()
    return _with_header(rearrange(rows, "b k c h w -> (b h) (k w) c"), ["face", *names], model.config.image_size)


def save(path: Path, *grids: Image.Image) -> Path:
    """Grids under each other in one PNG or JPEG file."""
    sheet = Image.new("RGB", (max(g.width for g in grids), sum(g.height for g in grids)), "white")
    top = 0
    for grid in grids:
        sheet.paste(grid, (0, top))
        top += grid.height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=88)
    return path


def _with_header(pixels: torch.Tensor, titles: list[str], width: int, header: int = 14) -> Image.Image:
    body = Image.fromarray((pixels.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8))
    sheet = Image.new("RGB", (body.width, body.height + header), "white")
    sheet.paste(body, (0, header))
    draw = ImageDraw.Draw(sheet)
    for i, title in enumerate(titles):
        draw.text((i * width + width // 2, header // 2), title, fill="black", anchor="mm")
    return sheet
