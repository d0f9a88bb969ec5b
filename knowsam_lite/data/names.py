"""Names of files, ids and groups: letters of all scripts stay, and two different names never become one."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable

STEM_BYTES = 180  # of the 255 that file systems allow: number of the slice, ending and a prefix come to it
# Windows opens a device instead of a file of such a name, whatever its ending.
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}


def readable(name: str) -> str:
    """A file's name as text: accents composed (Unicode NFC), and what is no Unicode as \\udcfc."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "backslashreplace").decode())


def file_stem(name: str) -> str:
    """A name without what some file system forbids: letters, marks and digits of all scripts, "._-" and "_"
    for all else. Different names may become one: see `distinct`.
    """
    text = readable(name)
    kept = (c if c in "._-" or unicodedata.category(c)[0] in "LMN" else "\0" for c in text)
    stem = re.sub("\0+", "_", "".join(kept)).strip("_.") or "_"
    if stem.split(".")[0].upper() in DEVICES:
        stem = f"_{stem}"
    if len(stem.encode()) > STEM_BYTES:
        cut = stem.encode()[: STEM_BYTES - 9].decode(errors="ignore")
        stem = f"{cut}-{_hash(name)}"
    return stem


def distinct(names: Iterable[str], stem: Callable[[str], str] = file_stem) -> dict[str, str]:
    """For each different name its `stem`; of names whose stems are equal, perhaps but for capitals, all get a
    hash except one that needed no change: the result depends on no order.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        alike[folded(stem(name))].append(name)
    stems = {}
    for group in alike.values():
        keeper = next((name for name in group if len(group) == 1 or stem(name) == name), None)
        for name in group:
            stems[name] = stem(name) if name == keeper else f"{stem(name)}-{_hash(name)}"
    return stems


def folded(name: str) -> str:
    """The name as a file system compares it that ignores capitals and how accents are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
