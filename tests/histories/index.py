"""Which histories are kept: what is in the index was made by a version of the library, and never changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
INDEX: Final = HERE / "index"

HEADER: Final = "# Append only. SHA-256, what made it, after how many events it may be cut, program, file.\n"


class Kept(NamedTuple):
    """One history that is kept.

    Attributes:
        digest: SHA-256 of its file, in hex.
        version: What made it: this library's version, or something else's name and version.
        cuts: After how many events it stood still, or was recorded together.
        program: What it is a history of.
        file: Where it is.
    """

    digest: str
    version: str
    cuts: tuple[int, ...]
    program: str
    file: str

    @property
    def path(self) -> Path:
        return HERE / self.file

    def line(self) -> str:
        cuts = ",".join(map(str, self.cuts)) or "-"
        return f"{self.digest}  {self.version}  {cuts}  {self.program}  {self.file}\n"


def kept() -> list[Kept]:
    """All of them."""
    if not INDEX.exists():
        return []
    lines = [line.split() for line in INDEX.read_text().splitlines() if line and not line.startswith("#")]
    return [
        Kept(digest, version, () if cuts == "-" else tuple(map(int, cuts.split(","))), program, file)
        for digest, version, cuts, program, file in lines
    ]


def keep(program: str, version: str, cuts: tuple[int, ...], document: bytes) -> Kept:
    """Add one.

    Raises:
        FileExistsError: There is one of this program and version: it is never overwritten.
    """
    file = f"{program}-{version}.json"
    entry = Kept(digest_of(document), version, cuts, program, file)
    with entry.path.open("xb") as new:
        new.write(document)
    text = INDEX.read_text() if INDEX.exists() else HEADER
    INDEX.write_text(text + entry.line())
    return entry


def digest_of(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()
