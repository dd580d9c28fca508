# SPDX-License-Identifier: Apache-2.0
"""The procedural generator: seeds, ranges, exact geometry, textures and depth edges that do not coincide."""

import dataclasses

import numpy as np
import pytest
import torch

from training.data.procedural import FARTHEST, NEAREST, ProceduralConfig, SceneGenerator
from training.data.procedural_light import Lighting
from training.data.procedural_materials import Materials
from training.data.procedural_objects import INDOOR, OUTDOOR, SMALL
from training.data.procedural_pack import pack
from training.data.procedural_primitives import (
    Camera,
    Light,
    Mask,
    Material,
    Primitive,
    Scene,
    bowl,
    box,
    curved_card,
    cylinder,
    ellipsoid,
    prism,
    rotation_from,
)
from training.data.procedural_random import Draw
from training.data.procedural_raycast import cast
from training.data.procedural_shading import Shader
from training.data.procedural_stage import hollow
from training.data.procedural_textures import TextureBank

WHITE = Material(np.full((16, 3), 0.5))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def generator() -> SceneGenerator:
    return SceneGenerator()


@pytest.fixture(scope="module")
def samples(generator: SceneGenerator) -> tuple[torch.Tensor, torch.Tensor]:
    return generator(48, 96, 128, seeded(0))


def test_the_same_seed_gives_the_same_bits(generator: SceneGenerator) -> None:
    first, second = generator(3, 64, 96, seeded(5)), SceneGenerator()(3, 64, 96, seeded(5))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert torch.equal(TextureBank(generator.config.texture_seed).texels, generator.bank.texels)


def test_other_seeds_and_other_samples_are_other_scenes(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    small = torch.nn.functional.avg_pool2d(samples[0], 8).flatten(1)
    distance = torch.cdist(small, small, p=1) / small.shape[1] + torch.eye(len(small))
    assert distance.min() > 0.01


def test_shapes_types_and_ranges(samples: tuple[torch.Tensor, torch.Tensor]) -> None:
    rgb, depth = samples
    assert (rgb.shape, rgb.dtype) == ((48, 3, 96, 128), torch.float32)
    assert (depth.shape, depth.dtype) == ((48, 1, 96, 128), torch.float32)
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert not torch.isnan(rgb).any()
    assert not torch.isnan(depth).any()
    finite = depth[torch.isfinite(depth)]
    assert finite.min() > 0.9 * NEAREST  # relief stands out from a surface by a few percent
    assert finite.max() <= FARTHEST


@pytest.mark.parametrize("size", [(1, 1), (17, 250), (250, 17)])
def test_any_size_renders(generator: SceneGenerator, size: tuple[int, int]) -> None:
    rgb, depth = generator(3, *size, seeded(1))
    assert rgb.shape == (3, 3, *size)
    assert depth.shape == (3, 1, *size)
    assert not torch.isnan(rgb).any()


def test_scales_reach_from_hand_to_street_and_some_have_sky(generator: SceneGenerator) -> None:
    _, depth = generator(150, 16, 24, seeded(3))
    middle = torch.nanquantile(torch.where(torch.isfinite(depth), depth, torch.nan).flatten(1), 0.5, 1)
    assert middle[~middle.isnan()].min() < 0.6
    assert middle[~middle.isnan()].max() > 15
    share = torch.isinf(depth).flatten(1).float().mean(1)
    assert (share > 0.1).sum() >= 3
    assert (share == 0).float().mean() > 0.5
    assert ((middle > 0.5) & (middle < 8)).float().mean() > 0.5


def edges(rgb: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where depth jumps by over 4 % and how far colour differs across that place (B, H, W - 1)."""
    z = torch.where(torch.isfinite(depth), depth, 1e3)[:, 0]
    step = (z[..., 1:] - z[..., :-1]).abs() / torch.minimum(z[..., 1:], z[..., :-1])
    smooth = torch.nn.functional.avg_pool2d(rgb, 3, 1, 1)
    # two pixels to either side: blur spreads an edge
    contrast = torch.zeros_like(step)
    contrast[..., 1:-1] = (smooth[..., 3:] - smooth[..., :-3]).abs().amax(1)
    return step > 0.04, contrast


def test_textures_without_depth_edges_and_depth_edges_without_colour_edges(
    samples: tuple[torch.Tensor, torch.Tensor],
) -> None:
    jump, contrast = edges(*samples)
    away = torch.nn.functional.max_pool2d(jump.float()[:, None], 7, 1, 3)[:, 0] == 0
    textured = (contrast > 0.15) & away
    assert textured.float().mean() > 0.02
    assert (textured.flatten(1).any(1)).float().mean() > 0.6  # in most pictures, not in a few
    hidden = jump & (contrast < 0.04)
    assert hidden.sum() > 0.05 * jump.sum()
    assert (jump & (contrast > 0.15)).sum() > 0.15 * jump.sum()
    # and depth edges still show more often than other places
    assert contrast[jump].mean() > 1.5 * contrast[away].mean()


def test_camouflage_hides_edges() -> None:
    shares = []
    for share in (0.0, 1.0):
        config = ProceduralConfig(room=0, tabletop=0, outdoor=0, surface=0, camouflage=share, noise=0.0)
        jump, contrast = edges(*SceneGenerator(config)(24, 96, 128, seeded(2)))
        shares.append(float((jump & (contrast < 0.04)).sum() / jump.sum()))
    assert shares[1] > 1.5 * shares[0]


@pytest.mark.parametrize("kind", ["room", "tabletop", "outdoor", "layered", "surface"])
def test_each_kind_alone_is_drawn_when_its_share_alone_is_set(kind: str) -> None:
    shares = dict.fromkeys(("room", "tabletop", "outdoor", "layered", "surface"), 0.0) | {kind: 1.0}
    config = dataclasses.replace(ProceduralConfig(), **shares)  # type: ignore[arg-type]
    _, depth = SceneGenerator(config)(6, 64, 64, seeded(0))
    sky = bool(torch.isinf(depth).flatten(1).any(1).sum() >= 3)
    assert sky == (kind == "outdoor")
    assert torch.isfinite(depth).float().mean() > 0.3


def test_a_batch_has_its_scenes_as_they_are_alone(generator: SceneGenerator) -> None:
    # a GPU renders the whole batch in padded slots, a CPU one scene at a time
    seeds = list(range(40, 60))
    rgb, depth = generator._render(seeds, 48, 64)
    each = [generator._render([seed], 48, 64) for seed in seeds]
    alone = torch.cat([d for _, d in each])
    assert torch.equal(torch.isinf(depth), torch.isinf(alone))
    finite = torch.isfinite(alone)
    assert torch.allclose(depth[finite], alone[finite], rtol=1e-4)
    # light and noise too: no scene's shadows or draws follow from what else is in the batch
    for seed, together, (picture, _) in zip(seeds, rgb, each, strict=True):
        assert ((together - picture[0]).abs() > 2e-3).float().mean() < 0.01, seed


def test_a_scene_keeps_its_shadow_beside_one_that_casts_none(generator: SceneGenerator) -> None:
    floor = box(np.array([0, 1.0, 3]), np.array([5, 0.01, 5.0]), np.eye(3), WHITE, shadow=False)
    ball = ellipsoid(np.array([0.0, 0.0, 3.0]), np.full(3, 0.4), np.eye(3), WHITE)
    card = box(
        np.array([0, 0, 3.0]), np.array([0.4, 0.4, 0.0]), np.eye(3), WHITE, mask=Mask(bars=(2.0, 0.0, 0.1))
    )
    scenes = [scene_of(floor, ball), scene_of(floor, card)]

    def pictures(*drawn: Scene) -> torch.Tensor:
        packed = pack(list(drawn), 65, 65, torch.device("cpu"))
        depth, surface = cast(packed, generator.bank)
        lighting = Lighting(packed, generator.bank, [seeded(0) for _ in drawn], stride=1)
        return Shader(packed, depth, surface, generator.bank).image(lighting)

    torch.testing.assert_close(pictures(*scenes), torch.cat([pictures(each) for each in scenes]))


def test_relief_moves_depth_little() -> None:
    smooth, rough = (
        SceneGenerator(ProceduralConfig(relief=share))(6, 64, 64, seeded(4))[1] for share in (0.0, 1.0)
    )
    both = torch.isfinite(smooth) & torch.isfinite(rough)
    ratio = (rough / smooth)[both]
    assert (ratio < 0.999).float().mean() > 0.2
    assert 0.9 < ratio.median() <= 1.0


def scene_of(*things: Primitive, wall: float = 5.0) -> Scene:
    backdrop = hollow(np.zeros(3), np.array([np.inf, np.inf, wall]), np.eye(3), WHITE)
    light = Light(np.array([0.5, -0.7, -0.5]) / np.sqrt(0.99), np.ones(3), np.full(3, 0.2), np.full(3, 0.2))
    return Scene(backdrop, list(things), light, Camera(np.zeros(3), np.eye(3), 1.0))


def depth_of(generator: SceneGenerator, scene: Scene, size: int = 65) -> torch.Tensor:
    return cast(pack([scene], size, size, torch.device("cpu")), generator.bank)[0][0]


def test_depth_is_that_of_the_ray_and_the_surface(generator: SceneGenerator) -> None:
    center = np.array([0.0, 0.0, 3.0])
    turned = rotation_from(np.pi / 4)
    for thing, expected in (
        (ellipsoid(center, np.array([0.5, 0.6, 0.4]), np.eye(3), WHITE), 2.6),
        (box(center, np.array([0.5, 0.5, 0.25]), np.eye(3), WHITE), 2.75),
        (box(center, np.array([0.5, 0.5, 0.5]), turned, WHITE), 3 - 0.5 * np.sqrt(2)),
        (cylinder(center - [0, 1, 0], center + [0, 1, 0], 0.3, WHITE), 2.7),
        (bowl(center + [0, 0.5, 0], 1.0, 0.4, WHITE), 3 - 0.4 * np.sqrt(0.5)),
        (prism(center, np.array([0.5, 0.5, 0.2]), 0.0, WHITE), 2.8),
        (curved_card(center, (0.5, 0.5), np.eye(3), 1.0, WHITE, Mask()), 3.0),
    ):
        depth = depth_of(generator, scene_of(thing))
        assert depth[32, 32] == pytest.approx(expected, abs=1e-4)
        assert depth[0, 0] == 5.0


def test_a_sphere_is_right_at_every_pixel(generator: SceneGenerator) -> None:
    center, radius, size = np.array([0.3, -0.2, 2.0]), 0.5, 101
    depth = depth_of(generator, scene_of(ellipsoid(center, np.full(3, radius), np.eye(3), WHITE)), size)
    axis = (np.arange(size) + 0.5 - size / 2) / size
    rays = np.stack([*np.meshgrid(axis, axis), np.ones((size, size))], -1)
    b, a, c = rays @ center, (rays**2).sum(-1), center @ center - radius**2
    square = b * b - a * c
    expected = np.where(square > 0, (b - np.sqrt(np.maximum(square, 0))) / a, 5.0)
    agree = np.abs(depth.numpy() - expected) < 1e-3
    assert (~agree).sum() <= 3  # float32 may decide otherwise on the very rim
    assert 500 < (expected < 5).sum() < 5000


@pytest.mark.parametrize(
    ("mask", "inside", "outside"),
    [
        (Mask(outline=np.ones(64)), (0.0, 0.5), (0.8, 0.8)),
        (Mask(outline=np.ones(64), ring=0.8), (0.9, 0.0), (0.3, 0.3)),
        (Mask(outline=np.ones(64), ring=0.9, spokes=(2, 0.02)), (0.95, 0.0), (0.4, 0.4)),
        (Mask(bars=(2.0, 0.0, 0.1)), (0.0, 0.3), (0.25, 0.3)),
    ],
)
def test_masks_cut_cards(
    generator: SceneGenerator, mask: Mask, inside: tuple[float, float], outside: tuple[float, float]
) -> None:
    # the card's half extent is a third of the image at z = 3: 65 pixels, centre 32
    card = box(np.array([0, 0, 3.0]), np.array([1.0, 1.0, 0.0]), np.eye(3), WHITE, mask=mask)
    depth = depth_of(generator, scene_of(card))
    pixels = [(32 + round(v * 65 / 3), 32 + round(u * 65 / 3)) for u, v in (inside, outside)]
    assert [float(depth[p]) for p in pixels] == [3.0, 5.0]


def test_nearer_things_hide_farther_ones_in_any_order(generator: SceneGenerator) -> None:
    near = box(np.array([0, 0, 2.0]), np.array([0.1, 0.1, 0.1]), np.eye(3), WHITE)
    far = box(np.array([0, 0, 4.0]), np.array([1.0, 1.0, 0.1]), np.eye(3), WHITE)
    one, other = depth_of(generator, scene_of(near, far)), depth_of(generator, scene_of(far, near))
    assert torch.equal(one, other)
    assert one[32, 32] == pytest.approx(1.9)
    assert one[32, 45] == pytest.approx(3.9)


def test_a_solid_throws_a_shadow_where_the_light_is_behind_it(generator: SceneGenerator) -> None:
    floor = box(np.array([0, 1.0, 3]), np.array([5, 0.01, 5.0]), np.eye(3), WHITE, shadow=False)
    ball = ellipsoid(np.array([0.0, 0.0, 3.0]), np.full(3, 0.4), np.eye(3), WHITE)
    shades = []
    for things in ((floor,), (floor, ball)):
        scene = scene_of(*things)
        scene.light.direction, scene.light.blur = np.array([0.0, -1.0, 0.0]), 0.001
        packed = pack([scene], 65, 65, torch.device("cpu"))
        depth, surface = cast(packed, generator.bank)
        image = Shader(packed, depth, surface, generator.bank).image(
            Lighting(packed, generator.bank, [seeded(0)], stride=1)
        )
        shades.append(image[0, 0])
    under = 32 + round(65 / 3)  # the floor point right below the ball
    assert shades[1][under, 32] < 0.5 * shades[0][under, 32]
    assert shades[1][under, 60] == pytest.approx(float(shades[0][under, 60]), rel=0.05)


MAKERS = {kind[0].__name__: kind[0] for kind in (*INDOOR, *SMALL, *OUTDOOR)}


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_kind_of_thing_can_be_seen(generator: SceneGenerator, name: str) -> None:
    seen = 0
    for seed in range(4):
        m = Materials(Draw(seed), generator.bank.groups, relief=0.0)
        depth = depth_of(generator, scene_of(*MAKERS[name](m, np.array([0, 0.5, 3.0]), 1.0, 0.4)))
        seen += int(((depth < 4.9) & (depth > 0.5)).sum() >= 8)
    assert seen >= 3
