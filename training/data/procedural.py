# SPDX-License-Identifier: Apache-2.0
"""Endless procedural RGB-D scenes in torch: exact depth, shaded and textured RGB."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .procedural_layout import Mix, draw_scene
from .procedural_light import Lighting
from .procedural_materials import Materials
from .procedural_pack import pack
from .procedural_random import Draw
from .procedural_raycast import cast
from .procedural_sensor import SensorDraw, expose
from .procedural_shading import Shader
from .procedural_textures import TextureBank

NEAREST, FARTHEST = 0.15, 300.0  # metres; what is closer is not seen, what is farther is no surface


@dataclass(frozen=True)
class ProceduralConfig:
    """Shares and ranges of what is drawn. Shares of scene kinds need not add up to 1."""

    room: float = 0.4
    tabletop: float = 0.16
    outdoor: float = 0.18
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
        self.bank = TextureBank(config.texture_seed, self.device)
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
        # one scene at a time keeps a CPU's cache; a GPU wants the batch
        chunk = 1 if self.device.type == "cpu" else batch
        parts = [self._render(seeds[i : i + chunk], height, width) for i in range(0, batch, chunk)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _render(self, seeds: list[int], height: int, width: int) -> tuple[Tensor, Tensor]:
        rngs = [Draw(seed) for seed in seeds]
        scenes = [
            draw_scene(Materials(rng, self.bank.groups, self.config.relief), self.mix, self.shares)
            for rng in rngs
        ]
        unit = torch.tensor([s.unit for s in scenes], device=self.device)[:, None, None]
        far = torch.tensor([min(s.far, FARTHEST / s.unit) for s in scenes], device=self.device)[:, None, None]
        noise = torch.Generator(self.device).manual_seed(seeds[0])
        with torch.no_grad():
            packed = pack(scenes, height, width, self.device)
            depth, surface = cast(packed, self.bank, NEAREST / unit)
            shader = Shader(packed, torch.where(depth < far, depth, torch.inf), surface, self.bank)
            metres = torch.where(shader.hit, shader.relief() * unit, torch.inf)
            rgb = expose(shader.image(Lighting(packed, self.bank, noise)), self._sensor(rngs), noise)
        return rgb, metres[:, None]

    def _sensor(self, rngs: list[Draw]) -> SensorDraw:
        def draws(make: Callable[[Draw], float | np.ndarray]) -> Tensor:
            values = np.array([np.atleast_1d(make(rng)) for rng in rngs], np.float32)
            return torch.as_tensor(values, device=self.device)[:, :, None, None]

        noise = self.config.noise
        return SensorDraw(
            exposure=draws(lambda r: r.log(0.12, 0.5)),
            gamma=draws(lambda r: r.uniform(0.4, 0.6)),
            contrast=draws(lambda r: r.uniform(0, 0.5)),
            cast=draws(lambda r: np.clip(1 + r.normals(3, 0.06), 0.7, 1.4)),
            vignette=draws(lambda r: r.pick((0.0, r.uniform(0, 0.5)))),
            blur=draws(lambda r: r.uniform(0.2, 1.0)),
            read_noise=draws(lambda r: noise * r.uniform() ** 3 * 0.5),
            shot_noise=draws(lambda r: noise * r.uniform() ** 3),
            soften=draws(lambda r: r.uniform()),
        )
