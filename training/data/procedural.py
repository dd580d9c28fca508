# SPDX-License-Identifier: Apache-2.0
"""Endless procedural RGB-D scenes in torch: exact depth, shaded and textured RGB."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .procedural_layout import Mix, draw_scene
from .procedural_light import Lighting
from .procedural_materials import Materials
from .procedural_pack import pack
from .procedural_random import Draw
from .procedural_raycast import cast
from .procedural_sensor import draw_sensor, expose
from .procedural_shading import Shader
from .procedural_textures import texture_bank

NEAREST, FARTHEST = 0.15, 300.0  # metres; what is closer is not seen, what is farther is no surface


@dataclass(frozen=True)
class ProceduralConfig:
    """Shares and ranges of what is drawn. Shares of scene kinds need not add up to 1."""

    room: float = 0.4
    tabletop: float = 0.16
    outdoor: float = 0.2
    layered: float = 0.18
    surface: float = 0.08
    camouflage: float = 0.15  # share of things that look like what is behind them
    relief: float = 0.15  # share of materials with relief
    shadows: float = 0.7  # share of scenes with cast shadows
    gobo: float = 0.3  # share of scenes with patterned light
    noise: float = 0.03  # largest standard deviation of RGB noise at full brightness
    texture_seed: int = 1  # of the texture bank


class SceneGenerator:
    """Draws batches of scenes on `device`; one scene a sample."""

    def __init__(self, config: ProceduralConfig = ProceduralConfig(), device: torch.device | str = "cpu"):
        self.config, self.device = config, torch.device(device)
        self.bank = texture_bank(config.texture_seed, self.device)
        self.mix = Mix(config.camouflage, config.shadows, config.gobo)
        self.shares = {
            kind: getattr(config, kind) for kind in ("room", "tabletop", "outdoor", "layered", "surface")
        }

    def __call__(
        self, batch: int, height: int, width: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return rgb (B, 3, H, W) float32 in [0, 1] and depth (B, 1, H, W) float32 metres, +inf: no surface.

        All randomness comes from `generator`, which lives on the generator's device or on the CPU.
        """
        seeds = torch.randint(2**62, (batch,), generator=generator, device=generator.device).tolist()
        return self.scenes(seeds, height, width)

    def scenes(self, seeds: list[int], height: int, width: int) -> tuple[Tensor, Tensor]:
        """As a call, of one scene for each seed: it follows from its own alone, whatever the others are."""
        # one scene at a time keeps a CPU's cache; a GPU wants the batch
        chunk = 1 if self.device.type == "cpu" else len(seeds)
        parts = [self._render(seeds[i : i + chunk], height, width) for i in range(0, len(seeds), chunk)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _render(self, seeds: list[int], height: int, width: int) -> tuple[Tensor, Tensor]:
        rngs = [Draw(seed) for seed in seeds]
        scenes = [
            draw_scene(Materials(rng, self.bank.groups, self.config.relief), self.mix, self.shares)
            for rng in rngs
        ]
        unit = self._each([s.unit for s in scenes])
        far = self._each([min(s.far, FARTHEST / s.unit) for s in scenes])
        noise = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        with torch.no_grad():
            packed = pack(scenes, height, width, self.device)
            depth, surface = cast(packed, self.bank, NEAREST / unit)
            shader = Shader(packed, torch.where(depth < far, depth, torch.inf), surface, self.bank)
            metres = torch.where(shader.hit, shader.relief() * unit, torch.inf)
            rgb = expose(
                shader.image(Lighting(packed, self.bank, noise)),
                draw_sensor(rngs, self.config.noise, self.device),
                noise,
            )
        return rgb, metres[:, None]

    def _each(self, values: list[float]) -> Tensor:
        """Return one value a scene as (B, 1, 1) on the device."""
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]
