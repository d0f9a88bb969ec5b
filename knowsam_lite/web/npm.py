"""Packages of the npm registry whose files a page takes along, and the one that is used: onnxruntime-web."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from knowsam_lite.downloads import cache_folder, fetch


@dataclass(frozen=True)
class NpmPackage:
    """One version of a package, downloaded once into the user's cache folder; its code is not run here."""

    name: str
    version: str
    sha256: str  # of the archive that the registry serves

    def get(self) -> Path:
        """The archive, its checksum verified. Raises UserError if it can neither be found nor downloaded."""
        file = f"{self.name}-{self.version}.tgz"
        url = f"https://registry.npmjs.org/{self.name}/-/{file}"
        return fetch(url, self.sha256, file, cache_folder() / "web")

    def read(self, *members: str) -> dict[str, bytes]:
        """The content of files of the archive, by their paths below package/."""
        found: dict[str, bytes] = {}
        with tarfile.open(self.get()) as archive:
            for member in members:
                file = archive.extractfile(f"package/{member}")
                assert file is not None  # the checksum was verified
                found[member] = file.read()
        return found


ORT = NpmPackage(
    "onnxruntime-web", "1.30.0", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
)
# The build for WebAssembly alone: the script for a page without modules, its loader, and the machine code.
ORT_SCRIPT = "dist/ort.wasm.min.js"
ORT_LOADER = "dist/ort-wasm-simd-threaded.mjs"
ORT_WASM = "dist/ort-wasm-simd-threaded.wasm"
