"""A wider network that starts as a narrower one, as Net2WiderNet does (Chen et al. 2015, 1511.05641): it computes the
same at first. The new channels start at random, and nothing old looks at them yet; there are no doubled ones to part.
"""

from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor, nn

from tergan_core.decoder import AdaptiveBlock, SkipDecoder

_Parts = dict[int, tuple[Sequence[int], Sequence[int]]]


def fits(narrow: nn.Module, wide: nn.Module) -> bool:
    """Whether both have the same layers, and the wide module's are at least as wide."""
    few, many = narrow.state_dict(), wide.state_dict()
    return few.keys() == many.keys() and all(
        few[name].ndim == many[name].ndim
        and all(n <= m for n, m in zip(few[name].shape, many[name].shape, strict=True))
        for name in few
    )


@torch.no_grad()
def widen(narrow: nn.Module, wide: nn.Module) -> None:
    """Makes `wide` compute what `narrow` does, for modules that `fits` accepts.

    Norm layers have to see each channel by itself or, as those of the decoder, groups of a fixed size.
    """
    special = _joined_channels(narrow, wide)
    many = wide.state_dict()
    for name, old in narrow.state_dict().items():
        new, parts = many[name], special.get(name, {})
        places = [
            _places(*parts.get(axis, ((old.shape[axis],), (new.shape[axis],)))).to(new.device)
            for axis in range(old.ndim)
        ]
        if old.ndim == 0:
            new.copy_(old)
            continue
        if old.ndim > 1:
            new[places[0]] = 0
        new[torch.meshgrid(*places, indexing="ij")] = old.to(new)
    wide.load_state_dict(many)


@torch.no_grad()
def at_every_place(head: nn.Linear, places: int) -> nn.Linear:
    """A layer for all places of a map, `(c p)`, that computes at first what `head` does for their mean."""
    wide = nn.Linear(head.in_features * places, head.out_features)
    wide.weight.copy_(repeat(head.weight / places, "o c -> o (c p)", p=places))
    wide.bias.copy_(head.bias)
    return wide


def _joined_channels(narrow: nn.Module, wide: nn.Module) -> dict[str, _Parts]:
    """For tensors with an axis that joins several groups of channels: the groups' sizes in either module, by axis."""
    found: dict[str, _Parts] = {}
    if not isinstance(narrow, SkipDecoder) or not isinstance(wide, SkipDecoder):
        return found
    for i, skip in enumerate(narrow.skips):
        few, many = (_block(decoder, i) for decoder in (narrow, wide))
        if not isinstance(skip, nn.Identity):
            joined = tuple((b.first.in_channels - b.first.out_channels, b.first.out_channels) for b in (few, many))
            found[f"blocks.{i}.first.weight"] = found[f"blocks.{i}.shortcut.weight"] = {1: joined}
        four = tuple((block.first.out_channels,) * 4 for block in (few, many))
        found[f"blocks.{i}.modulation.weight"] = found[f"blocks.{i}.modulation.bias"] = {0: four}
    return found


def _block(decoder: SkipDecoder, i: int) -> AdaptiveBlock:
    block = decoder.blocks[i]
    assert isinstance(block, AdaptiveBlock)
    return block


def _places(few: Sequence[int], many: Sequence[int]) -> Tensor:
    """Where the channels of the narrow groups stand among those of the wide ones: first in each group."""
    starts = [sum(many[:i]) for i in range(len(many))]
    return torch.cat([start + torch.arange(count) for start, count in zip(starts, few, strict=True)])
