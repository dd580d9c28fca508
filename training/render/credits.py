# SPDX-License-Identifier: Apache-2.0
"""Writes CREDITS.md beside the frames: every asset that they show, its authors and its licence.

Assets are named as `frames.build_scene` notes them: "data/tracks/NAME/FILE" and the like for files of the
game, "CATALOGUE.sh3f#PIECE#CREATOR" for furniture.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from training.data.rendered import SPLITS
from training.render.furniture import read_catalogue
from training.render.store import read_lines

HEAD = """# Sources of these frames

The frames are adaptations of the works below, some of them under share-alike licences: credit them, and do
not ship frames with software under another licence. Rendered with Mitsuba 3 and Open Image Denoise.
"""


@dataclass(frozen=True)
class Terms:
    """What Debian's copyright file says of some files: one-line licence and copyright, and their patterns."""

    license: str
    copyright: str
    patterns: tuple[str, ...]


def read_copyright(text: str) -> list[Terms]:
    """The Files stanzas of a machine-readable debian/copyright; of those that match, the last one holds."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE))
        if "Files" in fields:
            license_name = fields.get("License", "").strip().split("\n")[0]
            holders = "; ".join(
                line.strip() for line in fields.get("Copyright", "").split("\n") if line.strip()
            )
            found.append(Terms(license_name, holders, tuple(fields["Files"].split())))
    return found


def terms_of(file: str, stanzas: list[Terms]) -> Terms:
    """The terms of one file; "unknown" where no stanza matches."""
    for terms in reversed(stanzas):
        if any(fnmatch.fnmatchcase(file, pattern) for pattern in terms.patterns):
            return terms
    return Terms("unknown: see the package", "unknown", ())


def write_credits(root: Path, tracks: Path, furniture: Path) -> Path:
    """Write DIR/CREDITS.md for the frames of both splits; returns its path."""
    assets: set[str] = set()
    for split in SPLITS:
        for row in read_lines(root / split / "assets.jsonl"):
            assets.update(row["assets"])
    pieces = sorted(asset for asset in assets if "#" in asset)
    lines = [HEAD, *_game_lines(sorted(assets - set(pieces)), tracks), *_furniture_lines(pieces, furniture)]
    path = root / "CREDITS.md"
    path.write_text("\n".join(lines) + "\n")
    return path


def _game_lines(files: list[str], data: Path) -> Iterable[str]:
    if not files:
        return
    # DIR/share/games/supertuxkart/data -> DIR/share/doc/supertuxkart-data/copyright; a short relative path
    # has not so many parents by its name
    copyright_file = data / "../../../doc/supertuxkart-data/copyright"
    stanzas = read_copyright(copyright_file.read_text()) if copyright_file.is_file() else []
    yield "## SuperTuxKart (Debian package supertuxkart-data)\n"
    for track in sorted({file.split("/")[2] for file in files if file.startswith("data/tracks/")}):
        yield f"- Track `{track}`, designed by {_designer(data / 'tracks' / track / 'track.xml')}"
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        terms = terms_of(file, stanzas)
        groups[terms.license, terms.copyright].append(file)
    yield "\nFiles by licence, and their copyright:\n"
    for (license_name, holders), members in sorted(groups.items()):
        yield f"- **{license_name}**, {holders}: {_short(members)}"


def _designer(track_xml: Path) -> str:
    try:
        return ElementTree.parse(track_xml).getroot().get("designer") or "unknown"
    except (OSError, ElementTree.ParseError):
        return "unknown"


def _short(files: list[str]) -> str:
    """Files of one folder behind its name, which is said once."""
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[posixpath.dirname(file)].append(posixpath.basename(file))
    return "; ".join(f"{folder}/ {', '.join(names)}" for folder, names in folders.items())


def _furniture_lines(pieces: list[str], folder: Path) -> Iterable[str]:
    catalogues: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for piece in pieces:
        catalogue, name, creator = piece.split("#")
        catalogues[catalogue].append((name, creator))
    for catalogue, members in sorted(catalogues.items()):
        path = folder / catalogue
        licenses = (
            {piece.license for piece in read_catalogue(path)} if path.is_file() else {"see the package"}
        )
        yield f"\n## Furniture: {catalogue} (Debian package sweethome3d-furniture)\n"
        yield f"Licence: {'; '.join(sorted(licenses))}\n"
        by: dict[str, list[str]] = defaultdict(list)
        for name, creator in members:
            by[creator].append(name)
        for creator, names in sorted(by.items()):
            yield f"- {creator}: {', '.join(sorted(set(names)))}"
