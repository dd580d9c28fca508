# SPDX-License-Identifier: Apache-2.0
"""Which frames a run makes, and how one is made: a function of its seed, split, kind and number alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from training.data.procedural_random import Draw
from training.render.splits import scene_seed

if TYPE_CHECKING:
    from training.render.geometry import Camera, Lighting, SceneBuilder

ROOM, TRACK = "room", "track"
FRAMES_A_SCENE = {ROOM: 8, TRACK: 16}  # building a scene costs about as much as a few frames
VIEWS = 12  # cameras that are tried for one frame


@dataclass(frozen=True)
class Settings:
    """What a run renders. size: height, width; samples: rays a pixel; tracks, furniture: asset folders."""

    out: Path
    split: str
    seed: int
    size: tuple[int, int]
    samples: int
    tracks: Path
    furniture: Path


@dataclass(frozen=True)
class SceneJob:
    """The frames wanted of one scene, by their numbers in it."""

    kind: str
    scene: int
    frames: tuple[int, ...]


def scene_name(settings: Settings, job: SceneJob) -> str:
    """Unlike that of any other seed, split, kind and number."""
    return f"{settings.split}_{job.kind}_{settings.seed:04d}_{job.scene:05d}"


def frame_name(settings: Settings, job: SceneJob, frame: int) -> str:
    """The scene's name and the number of the frame in it."""
    return f"{scene_name(settings, job)}_{frame:02d}"


def plan_jobs(settings: Settings, rooms: int, tracks: int, finished: set[str]) -> list[SceneJob]:
    """Jobs for the first `rooms` and `tracks` frames of the seed, without those that are finished."""
    jobs = []
    for kind, count in ((ROOM, rooms), (TRACK, tracks)):
        each = FRAMES_A_SCENE[kind]
        for scene in range(-(-count // each)):
            wanted = SceneJob(kind, scene, tuple(range(min(each, count - scene * each))))
            left = tuple(k for k in wanted.frames if frame_name(settings, wanted, k) not in finished)
            if left:
                jobs.append(SceneJob(kind, scene, left))
    return jobs


class Scene(Protocol):
    """A room or a track: what it is called, what it holds, and cameras in it."""

    name: str
    scene: SceneBuilder
    lighting: Lighting

    def camera(self, seed: int) -> Camera: ...


@dataclass(frozen=True)
class Frame:
    """One finished frame: rgb (H, W, 3) uint8, depth (H, W) metres, NaN where no surface is."""

    number: int
    rgb: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    fov_x_deg: float


def build_scene(settings: Settings, job: SceneJob) -> tuple[Scene, list[str]]:
    """The scene of a job, and its assets as `credits` names them."""
    seed = scene_seed(settings.seed, settings.split, job.kind, job.scene)
    if job.kind == TRACK:
        from training.render.tracks import TrackScene, list_tracks

        names = list_tracks(settings.tracks, settings.split)
        track = TrackScene(settings.tracks, Draw(seed).pick(names), settings.split, seed)
        return track, sorted(f"data/{path.relative_to(settings.tracks)}" for path in track.files)
    from training.render.furniture import list_furniture
    from training.render.room_scene import RoomScene

    room = RoomScene(list_furniture(settings.furniture, settings.split), seed)
    return room, sorted({f"{piece.catalogue.name}#{piece.name}#{piece.creator}" for piece in room.pieces})


def is_worth_it(depth: npt.NDArray[np.float32]) -> bool:
    """Whether a view shows something: not mostly sky, nothing that fills the lens, not one flat wall."""
    known = depth[np.isfinite(depth)]
    if known.size < 0.35 * depth.size:
        return False
    near, far = np.percentile(known, [3, 95])
    return bool(near > 0.3 and far / near > 1.4)


def render_frames(settings: Settings, job: SceneJob, scene: Scene) -> Iterator[Frame]:
    """The frames of a job, one after the other."""
    from training.render.camera_effects import photograph
    from training.render.integrator import Integrator, denoise

    integrator = Integrator(scene.scene, scene.lighting)
    for number in job.frames:
        draw = Draw(scene_seed(settings.seed, settings.split, f"{job.kind}/{number}", job.scene))
        for _ in range(VIEWS):
            camera = scene.camera(draw.integer(0, 2**62))
            depth = integrator.depth(camera, settings.size)
            if is_worth_it(depth):
                break
        picture = integrator.picture(camera, settings.size, settings.samples, draw.integer(0, 2**32 - 1))
        rgb = photograph(denoise(picture), depth, draw.integer(0, 2**62))
        yield Frame(number, rgb, depth, camera.fov_x_deg)


def facts(frame: Frame, scene: Scene) -> dict[str, Any]:
    """What a frame's line in the index says beside its name."""
    return {"scene": scene.name, "fov_x_deg": frame.fov_x_deg}
