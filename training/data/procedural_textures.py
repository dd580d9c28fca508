# SPDX-License-Identifier: Apache-2.0
"""A bank of tileable grey textures with mip levels, and its trilinear sampler."""

import functools
import math

import torch
from torch import Tensor

SIZE = 256  # texels on a side of a texture's finest level
LEVELS = 8  # 256, 128, ..., 2


def _grid(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return texel centres in tile units, y and x, each (SIZE, SIZE) in [0, 1)."""
    axis = (torch.arange(SIZE, device=device) + 0.5) / SIZE
    return tuple(torch.meshgrid(axis, axis, indexing="ij"))  # type: ignore[return-value]


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=rng).item()


def _integer(rng: torch.Generator, low: int, high: int) -> int:
    """Return an integer in [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def _stretch(values: Tensor) -> Tensor:
    """Map the 2nd to 98th percentile onto [0, 1] and clip."""
    flat = values.flatten()[::7]
    low, high = torch.quantile(flat, 0.02), torch.quantile(flat, 0.98)
    return ((values - low) / (high - low + 1e-6)).clamp(0, 1)


def noise(rng: torch.Generator, slope: float, aspect: float = 1.0, lowest: float = 1.0) -> Tensor:
    """Return tileable Gaussian noise (SIZE, SIZE) whose amplitude falls as frequency**-slope.

    `aspect` > 1 stretches it along x, `lowest` is the lowest frequency kept, in cycles a tile.
    """
    freq = torch.fft.fftfreq(SIZE) * SIZE
    fy, fx = freq[:, None], torch.fft.rfftfreq(SIZE)[None] * SIZE
    radius = torch.sqrt(fy**2 / aspect + fx**2 * aspect)
    amplitude = torch.where(radius < lowest * 0.99, torch.zeros(()), radius.clamp(min=0.5) ** -slope)
    white = torch.randn(SIZE, SIZE, generator=rng)
    return torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(SIZE, SIZE))


def fractal(rng: torch.Generator) -> Tensor:
    """1/f noise, sometimes stretched: plaster, soil, cloth, grass."""
    aspect = 1.0 if _uniform(rng, 0, 1) < 0.6 else _uniform(rng, 2.0, 30.0)
    return _stretch(noise(rng, _uniform(rng, 0.85, 2.0), aspect, _integer(rng, 1, 4)))


def smooth(rng: torch.Generator) -> Tensor:
    """Rolling noise without detail: dents, folds, dunes; meant for relief."""
    return _stretch(
        noise(
            rng,
            _uniform(rng, 2.2, 3.2),
            1.0 if _uniform(rng, 0, 1) < 0.6 else _uniform(rng, 2, 8),
            _integer(rng, 1, 5),
        )
    )


def marble(rng: torch.Generator) -> Tensor:
    """Ridged and folded noise: veins, marble, turbulence."""
    base = noise(rng, _uniform(rng, 1.4, 2.2))
    base = base / base.std()
    if _uniform(rng, 0, 1) < 0.5:
        return _stretch(-(base.abs() ** _uniform(rng, 0.4, 1.0)))
    return 0.5 + 0.5 * torch.sin(base * _uniform(rng, 2.0, 9.0))


def wood(rng: torch.Generator) -> Tensor:
    """Wavy grain along y, with planks."""
    y, x = _grid()
    planks = _integer(rng, 1, 6)
    plank = (x * planks).floor()
    shift = torch.rand(planks, generator=rng)[plank.long()]
    warp = noise(rng, 1.8, 0.1)
    grain = torch.sin(
        2 * math.pi * (x * _integer(rng, 4, 16) + _uniform(rng, 0.1, 0.6) * warp / warp.std() + shift)
    )
    fine = noise(rng, 0.8, 0.02)
    gap = ((x * planks).frac() < 0.03).float()
    return _stretch(0.25 * grain + 0.3 * fine / fine.std() + _uniform(rng, 0, 1) * shift - 1.5 * gap)


def cells(rng: torch.Generator) -> Tensor:
    """Voronoi cells, flat in tone or shaded to their borders: stones, cobbles, cracks, leather."""
    y, x = _grid()
    count = _integer(rng, 8, 140)
    points, tone = torch.rand(count, 2, generator=rng), torch.rand(count, generator=rng)
    distance = torch.full((2, SIZE, SIZE), 9.0)
    owner = torch.zeros(SIZE, SIZE, dtype=torch.long)
    for i in range(count):
        dy, dx = (y - points[i, 0] + 0.5) % 1 - 0.5, (x - points[i, 1] + 0.5) % 1 - 0.5
        d = torch.sqrt(dy * dy + dx * dx)
        owner = torch.where(d < distance[0], i, owner)
        distance[1] = torch.minimum(distance[1], torch.maximum(d, distance[0]))
        distance[0] = torch.minimum(distance[0], d)
    border = ((distance[1] - distance[0]) * math.sqrt(count) * _uniform(rng, 2, 10)).clamp(0, 1)
    rough = noise(rng, 1.0)
    mix = _uniform(rng, 0, 1)
    return _stretch((mix * tone[owner] + 1 - mix + 0.1 * rough / rough.std()) * border)


def bricks(rng: torch.Generator) -> Tensor:
    """Rows of bricks, tiles or planks with mortar and a tone of their own."""
    y, x = _grid()
    rows, columns = _integer(rng, 2, 16), _integer(rng, 1, 8)
    row = (y * rows).floor()
    shifted = x * columns + (row % 2) * (0.5 if _uniform(rng, 0, 1) < 0.7 else 0.0)
    tone = torch.rand(rows, columns, generator=rng)[row.long(), shifted.floor().long() % columns]
    width = _uniform(rng, 0.02, 0.12)
    dv = torch.minimum((y * rows).frac(), 1 - (y * rows).frac())
    du = torch.minimum(shifted.frac(), 1 - shifted.frac()) * rows / columns
    mortar = (torch.minimum(du, dv) < width / 2).float()
    rough = noise(rng, 1.1)
    body = 0.6 + _uniform(rng, 0, 0.5) * (tone - 0.5) + _uniform(rng, 0.01, 0.12) * rough / rough.std()
    return (torch.lerp(body, torch.full_like(body, _uniform(rng, 0, 1)), mortar)).clamp(0, 1)


def pattern(rng: torch.Generator) -> Tensor:
    """Checker, stripes, plaid, dots or weave."""
    y, x = _grid()
    kind, n, m = _integer(rng, 0, 4), _integer(rng, 1, 12), _integer(rng, 1, 12)
    duty = _uniform(rng, 0.15, 0.85)
    if kind == 0:
        value = ((x * 2 * n).floor() + (y * 2 * n).floor()) % 2
    elif kind == 1:
        value = ((x * n).frac() < duty).float()
    elif kind == 2:
        value = 0.5 * ((x * n).frac() < duty).float() + 0.5 * ((y * m).frac() < duty).float()
    elif kind == 3:
        value = (((x * n).frac() - 0.5) ** 2 + ((y * n).frac() - 0.5) ** 2 < (0.5 * duty) ** 2).float()
    else:
        value = 0.5 + 0.25 * (torch.sin(2 * math.pi * 3 * n * x) + torch.sin(2 * math.pi * 3 * m * y))
    rough = noise(rng, 1.0)
    return (0.1 + 0.8 * value + _uniform(rng, 0, 0.08) * rough / rough.std()).clamp(0, 1)


def writing(rng: torch.Generator) -> Tensor:
    """Lines of glyph-like marks with word gaps, as on labels, covers and signs."""
    rows = _integer(rng, 4, 24)
    height = SIZE // rows
    page = torch.ones(SIZE, SIZE)
    for row in range(rows):
        if _uniform(rng, 0, 1) < 0.12:
            continue
        cell = max(3, int(height * 0.45))
        columns = -(-SIZE // cell)
        ink = torch.rand(3, columns, 5, 3, generator=rng)[0] < 0.55
        ink &= torch.rand(columns, 1, 1, generator=rng) < 0.82
        glyph = ink.float()
        glyph[..., 2] = 0
        line = torch.nn.functional.interpolate(
            glyph[:, None], size=(max(2, int(height * 0.6)), cell), mode="nearest"
        )[:, 0]
        line = line.permute(1, 0, 2).reshape(line.shape[1], -1)[:, :SIZE]
        margin = _integer(rng, 0, SIZE // 4)
        line[:, :margin] = 0
        top = row * height
        page[top : top + line.shape[0]] -= line[: SIZE - top] * _uniform(rng, 0.6, 1.0)
    return page.clamp(0, 1)


def dead_leaves(rng: torch.Generator, slender: bool = False) -> Tensor:
    """Shapes of power-law size hiding each other: the statistics of natural images; leaves if slender."""
    y, x = _grid()
    value = _stretch(noise(rng, 1.6))
    smallest, count = _uniform(rng, 0.01, 0.05), _integer(rng, 60, 220)
    draws = torch.rand(count, 8, generator=rng)
    radius = smallest * (1 - draws[:, 0] * (1 - smallest / 0.35)) ** -1.0
    for i in range(count):
        cy, cx, tone, angle, kind, thin, light = draws[i, 1:].tolist()
        r = min(float(radius[i]), 0.3) * (0.35 if slender else 1.0)
        span = min(0.5, r * (4.0 if slender else 1.5))
        y0, x0, n = int((cy - span) * SIZE), int((cx - span) * SIZE), int(2 * span * SIZE) + 1
        iy, ix = torch.arange(y0, y0 + n), torch.arange(x0, x0 + n)
        dy, dx = ((iy + 0.5) / SIZE - cy)[:, None], ((ix + 0.5) / SIZE - cx)[None]
        c, s = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
        a, b = c * dx + s * dy, c * dy - s * dx
        stretch = 1 + (3 + 5 * thin if slender else thin)
        a = a / stretch
        inside = (
            (a * a + b * b < r * r) if slender or kind < 0.5 else (a.abs() < 0.7 * r) & (b.abs() < 0.7 * r)
        )
        shade = tone + 0.25 * (light - 0.5) * (a + b) / r
        rows, columns = (iy % SIZE)[:, None].expand(n, n)[inside], (ix % SIZE)[None].expand(n, n)[inside]
        value[rows, columns] = shade[inside].clamp(0, 1)
    rough = noise(rng, 1.0)
    return (value + 0.02 * rough / rough.std()).clamp(0, 1)


def leaves(rng: torch.Generator) -> Tensor:
    """Dead leaves of slender shapes: foliage, straw, blades."""
    return dead_leaves(rng, slender=True)


KINDS = (
    (fractal, 28),
    (marble, 8),
    (wood, 10),
    (cells, 12),
    (bricks, 12),
    (pattern, 14),
    (writing, 8),
    (dead_leaves, 24),
    (leaves, 12),
    (smooth, 8),
)


class TextureBank:
    """Mip-mapped tileable textures, sampled per pixel.

    `groups` maps a kind's name to its texture indices. The bank is made from `seed` alone, so that one
    seed of a scene means one picture; variety comes from scale, rotation, palette and mixing of pairs.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu"):
        rng = torch.Generator().manual_seed(seed)
        maps: list[Tensor] = []
        self.groups: dict[str, list[int]] = {}
        for make, count in KINDS:
            self.groups[make.__name__] = list(range(len(maps), len(maps) + count))
            maps += [make(rng) for _ in range(count)]
        self.count = len(maps)
        level = torch.stack(maps)
        parts: list[Tensor] = []
        offsets: list[int] = []
        for _ in range(LEVELS):
            offsets.append(sum(part.numel() for part in parts))
            parts.append(level.flatten())
            level = torch.nn.functional.avg_pool2d(level[:, None], 2)[:, 0]
        self.texels = torch.cat(parts).to(device)
        # float32 holds every index up to 2**24 exactly, and its arithmetic is far faster than int64's
        assert self.texels.numel() < 2**24
        self.offsets = torch.tensor(offsets, dtype=torch.float32, device=device)

    def _texel(self, row: Tensor, column: Tensor) -> Tensor:
        return self.texels.index_select(0, (row + column).long().flatten()).view(row.shape)

    def sample(self, texture: Tensor, u: Tensor, v: Tensor, lod: Tensor) -> Tensor:
        """Return the textures' values in [0, 1], bilinear on the nearest mip level.

        texture (whole numbers), u and v (tiles) and lod (log2 of texels a pixel) are float32 of one shape.
        """
        level = (lod + 0.5).clamp_(0, LEVELS - 1).floor_()
        size = torch.exp2(LEVELS - level)  # SIZE is 2 ** LEVELS
        base = self.offsets.index_select(0, level.long().flatten()).view(level.shape)
        base = torch.addcmul(base, texture, size * size)
        x, y = (u - u.floor()).mul_(size), (v - v.floor()).mul_(size)
        x0, y0 = x.floor(), y.floor()
        fx, fy = x.sub_(x0), y.sub_(y0)
        # u - floor(u) rounds up to 1 just below a whole number
        x0, y0 = torch.where(x0 < size, x0, 0.0), torch.where(y0 < size, y0, 0.0)
        x1, y1 = x0 + 1, y0 + 1
        x1, y1 = torch.where(x1 < size, x1, 0.0), torch.where(y1 < size, y1, 0.0)
        row0, row1 = torch.addcmul(base, y0, size), torch.addcmul(base, y1, size)
        top = torch.lerp(self._texel(row0, x0), self._texel(row0, x1), fx)
        return top.lerp_(torch.lerp(self._texel(row1, x0), self._texel(row1, x1), fx), fy)


@functools.lru_cache(maxsize=4)
def texture_bank(seed: int, device: torch.device) -> TextureBank:
    """Return the bank of a seed, made once a process and device: it takes a second or two."""
    return TextureBank(seed, device)
