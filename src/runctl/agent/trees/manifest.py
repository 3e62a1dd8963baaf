"""A tree's manifest: what is in the tree, and what is to be found in its text without reading all of it.

A manifest is a JSON object of path → ``["f", executable, size, sha256]`` or ``["l", target]``, written with sorted
keys, without spaces, in ASCII; paths have forward slashes, and bytes that are no UTF-8 are escaped as Python's
"surrogateescape" does. Equal trees have equal texts, and the tree's name is the text's SHA-256.

An object for each of thousands of entries takes longer to make than all that a small change needs. As the text is
sorted, one entry is found in it by bisection, and the differences between two texts by comparing blocks. Both sides of
a sync use this module.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence

from runctl.agent.trees.entries import entry_fault

Entry = Sequence[Any]
"""``["f", executable (0 or 1), size, sha256]`` or ``["l", target]``."""
Entries = Mapping[str, Entry]
Differences = dict[str, tuple[Optional[Entry], Optional[Entry]]]
"""By path: the entry before and the entry after, ``None`` where there is none."""

FEW = 100
"""With up to so many changes the text is edited; with more, all entries are read."""
_SCANNED = 4096
"""Characters that are read one entry after the other, where bisection has come close enough."""
_BLOCK = 1 << 16
# The quote before the hash follows a comma, so it is not escaped and opens or closes a string; a path that ended there
# would be followed by a colon. So it is a file's hash, and the last quote begins a path: no name can look like this.
_NEXT_PATH = re.compile(r',"[0-9a-f]{64}"\],"')
_DECODER = json.JSONDecoder()


class Manifest:
    """What is in one tree. Immutable; made from its entries or from its text, the other is made when it is needed."""

    def __init__(
        self, entries: Entries | None = None, text: str | None = None, digest: str | None = None
    ) -> None:
        """Of entries or of a text in the canonical form; whoever knows the digest spares computing it."""
        self._entries = entries
        self._text = text
        self._digest = digest

    @property
    def entries(self) -> Entries:
        """All of them. Raises `ValueError` for a text that is not a manifest's."""
        if self._entries is None:
            entries = json.loads(self.text)
            if not isinstance(entries, dict):
                raise ValueError("a manifest is a JSON object")
            self._entries = entries
        return self._entries

    @property
    def text(self) -> str:
        """In the canonical form."""
        if self._text is None:
            self._text = json.dumps(self._entries, sort_keys=True, separators=(",", ":"))
        return self._text

    @property
    def digest(self) -> str:
        """SHA-256 of the text: the tree's name."""
        if self._digest is None:
            self._digest = hashlib.sha256(self.text.encode("ascii")).hexdigest()
        return self._digest

    def get(self, path: str) -> Entry | None:
        """What is at this path, if anything is."""
        if self._entries is not None:
            return self._entries.get(path)
        return _find(self.text, path)[2]

    def has_folder(self, path: str) -> bool:
        """Whether anything is below this path."""
        prefix = path + "/"
        text = self.text
        start, _, _ = _find(text, prefix)
        return text[start] != "}" and _path_at(text, start).startswith(prefix)

    def with_changes(self, changed: Entries, removed: Iterable[str] = ()) -> Manifest:
        """The manifest with these entries, and without those that are removed."""
        removed = set(removed) - changed.keys()
        if len(changed) + len(removed) > FEW:
            entries = {**self.entries, **changed}
            for path in removed:
                entries.pop(path, None)
            return Manifest(entries)
        text = self.text
        # Each entry with a comma behind it.
        body = text[:-1] + ("," if len(text) > 2 else "")
        pieces: list[str] = []
        done = 0
        for path in sorted({*changed, *removed}):
            start, end, entry = _find(text, path)
            if start == len(text) - 1:
                start = end = len(body)
            elif entry is not None:
                end += 1
            pieces.append(body[done:start])
            if path in changed:
                pieces.append(json.dumps({path: changed[path]}, separators=(",", ":"))[1:-1] + ",")
            done = end
        pieces.append(body[done:])
        whole = "".join(pieces)
        return Manifest(text=(whole[:-1] if whole.endswith(",") else whole) + "}")

    def differences(self, after: Manifest) -> Differences:
        """What makes this into ``after``."""
        found = None
        if self._text is not None and after._text is not None:
            found = _differences(self._text, after._text)
        if found is not None:
            return found
        old, new = self.entries, after.entries
        differences: Differences = {
            path: (old.get(path), entry) for path, entry in new.items() if old.get(path) != entry
        }
        differences.update((path, (old[path], None)) for path in old.keys() - new.keys())
        return differences

    def files_with(self, contents: set[str]) -> Iterator[tuple[str, Entry]]:
        """The files that have one of these contents (SHA-256)."""
        if len(contents) > FEW:
            yield from ((path, entry) for path, entry in self.entries.items() if entry[-1] in contents)
            return
        text = self.text
        for sha in contents:
            at = text.find('"' + sha + '"]')
            while at >= 0:
                start = _member_before(text, at)
                path, entry, end = _member(text, start)
                while end < at:
                    path, entry, end = _member(text, end + 1)
                # A path or a link's target can look like a hash.
                if entry[0] == "f" and entry[3] == sha:
                    yield path, entry
                at = text.find('"' + sha + '"]', at + 1)


EMPTY = Manifest({}, "{}")


def fault_in(touched: Entries, manifest: Manifest, base: Manifest = EMPTY) -> str:
    """Why the manifest is not one of a tree that stays inside its folder, in words; empty where it is.

    ``touched`` are its entries that are not as in ``base``, which has been checked before.
    """
    for path, entry in touched.items():
        fault = entry_fault(path, entry)
        if fault:
            return fault
    if base is EMPTY or len(touched) > FEW:
        twice = next((folder for folder in folders(manifest.entries) if folder in manifest.entries), "")
    else:
        twice = next((path for path in touched if base.get(path) is None and _is_twice(manifest, path)), "")
    return f"{twice!r} is both a file and a folder" if twice else ""


def _is_twice(manifest: Manifest, path: str) -> bool:
    """Whether the path, or a folder on its way, is both a file and a folder."""
    return manifest.has_folder(path) or any(manifest.get(folder) is not None for folder in folders([path]))


def contents(entries: Iterable[Entry]) -> dict[str, int]:
    """Each distinct content's hash and size."""
    return {entry[3]: entry[2] for entry in entries if entry[0] == "f"}


def folders(paths: Iterable[str]) -> set[str]:
    """Every folder that the paths need, without the root."""
    found = {path.rpartition("/")[0] for path in paths}
    for folder in list(found):
        above = folder.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    found.discard("")
    return found


def _member(text: str, start: int) -> tuple[str, Any, int]:
    """Path and entry that begin there, and where they end."""
    path, colon = _DECODER.raw_decode(text, start)
    entry, end = _DECODER.raw_decode(text, colon + 1)
    return path, entry, end


def _path_at(text: str, start: int) -> str:
    path: str = _DECODER.raw_decode(text, start)[0]
    return path


def _member_before(text: str, position: int) -> int:
    """Where a member begins, at ``position`` or before it; not always the nearest."""
    window = 1024
    while True:
        low = max(0, position - window)
        found = 0
        for match in _NEXT_PATH.finditer(text, low, position + 1):
            found = match.end() - 1
        if found or low == 0:
            return found or 1
        window *= 8


def _find(text: str, path: str) -> tuple[int, int, Entry | None]:
    """Begin and end of the member with this path, and its entry; else twice where it would have to begin."""
    low, high = 1, len(text) - 1
    while high - low > _SCANNED:
        middle = _member_before(text, (low + high) // 2)
        if middle <= low:
            break
        if _path_at(text, middle) <= path:
            low = middle
        else:
            high = middle
    while text[low] != "}":
        name, entry, end = _member(text, low)
        if name == path:
            return low, end, entry
        if name > path:
            break
        low = end + (text[end] == ",")
    return low, low, None


def _differences(old: str, new: str) -> Differences | None:
    """``None`` where there are more than a few."""
    found: Differences = {}
    before = after = 1
    for _ in range(2 * FEW):
        same = _common(old, before, new, after)
        step = max(_member_before(old, before + same - 1) - before, 0) if same else 0
        before, after = before + step, after + step
        at_end = old[before] == "}", new[after] == "}"
        if all(at_end) or (before + same - step == len(old) and after + same - step == len(new)):
            return found
        first = None if at_end[0] else _member(old, before)
        second = None if at_end[1] else _member(new, after)
        if first is not None and second is not None and first[0] == second[0]:
            if first[1] != second[1]:
                found[first[0]] = (first[1], second[1])
        elif second is None or (first is not None and first[0] < second[0]):
            assert first is not None  # noqa: S101 (not both are at their end)
            found[first[0]] = (first[1], None)
            second = None
        else:
            found[second[0]] = (None, second[1])
            first = None
        before = _behind(old, first, before)
        after = _behind(new, second, after)
    return None


def _behind(text: str, member: tuple[str, Any, int] | None, start: int) -> int:
    """Where the next member begins; where it was if there is none to step over."""
    if member is None:
        return start
    return member[2] + (text[member[2]] == ",")


def _common(old: str, before: int, new: str, after: int) -> int:
    """How many characters are the same from there."""
    limit = min(len(old) - before, len(new) - after)
    done, block = 0, _BLOCK
    while done < limit:
        if old[before + done : before + done + block] == new[after + done : after + done + block]:
            done = min(done + block, limit)
        elif block > 1:
            block //= 16
        else:
            break
    return done
