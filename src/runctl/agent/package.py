"""Builds the one file that is sent to a machine: the same sources give the same bytes."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Dict

EPOCH = (1980, 1, 1, 0, 0, 0)
LEFT_OUT = ("package.py",)

# Python compiles what it imports from an archive anew each time, which is half of a verb's time. So the first call
# unpacks the archive beside itself; where that is not possible, the archive itself still works. What unpacking needs
# is imported only then: it takes longer than all that a quick verb needs. A link named like the archive, with a dot
# before it, leads to what was unpacked: see QUICK.
LAUNCH = """\
import os, sys
# Whatever the environment says of other programs: this folder is the agent's own.
sys.dont_write_bytecode = False
archive = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(os.path.dirname(archive), ".agent-{digest}")
if not os.path.isdir(folder):
    import shutil, tempfile, zipfile
    partial = None
    try:
        partial = tempfile.mkdtemp(prefix=".agent-", suffix=".partial", dir=os.path.dirname(archive))
        os.chmod(partial, 0o755)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(partial)
        os.rename(partial, folder)
        os.symlink(os.path.basename(folder), os.path.join(partial + ".link"))
        os.rename(partial + ".link", os.path.join(os.path.dirname(archive), "." + os.path.basename(archive)))
    except OSError:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
if os.path.isdir(folder):
    sys.path[0] = folder
from runctl.agent.__main__ import main
sys.exit(main())
"""

# Python takes longer to look into an archive for what to run than to do what a quick verb wants.
# ``python -I -S -c QUICK ARCHIVE VERB WORD...`` says what Python says itself when the archive is not there.
QUICK = """\
import os, sys
archive = sys.argv[1]
unpacked = os.path.join(os.path.dirname(archive), "." + os.path.basename(archive))
if os.path.isdir(unpacked):
    sys.dont_write_bytecode = False
    sys.path.insert(0, unpacked)
    from runctl.agent.__main__ import main
    sys.exit(main(sys.argv[2:]))
if os.path.exists(archive):
    import runpy
    del sys.argv[0]
    runpy.run_path(archive, run_name="__main__")
else:
    sys.stderr.write("can't open file " + repr(archive))
    sys.exit(2)
"""


def _sources() -> Dict[str, bytes]:
    here = Path(__file__).parent
    found = {"runctl/__init__.py": b""}
    for path in sorted(here.rglob("*.py")):
        if path.name not in LEFT_OUT:
            found["runctl/agent/" + path.relative_to(here).as_posix()] = path.read_bytes()
    content = hashlib.sha256()
    for name, data in sorted(found.items()):
        content.update("{} {}\n".format(name, hashlib.sha256(data).hexdigest()).encode())
    found["__main__.py"] = LAUNCH.replace("{digest}", content.hexdigest()[:16]).encode()
    return found


@functools.lru_cache(maxsize=1)
def _archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in sorted(_sources().items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    return b"#!/usr/bin/env python3\n" + sink.getvalue()


def digest() -> str:
    """SHA-256 of the zipapp, in hex."""
    return hashlib.sha256(_archive()).hexdigest()


def build(cache_dir: Path) -> Path:
    """The zipapp, ``agent-<digest>.pyz`` in ``cache_dir``, which is made if need be. Raises `OSError`."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / "agent-{}.pyz".format(digest()[:16])
    data = _archive()
    if path.is_file() and path.read_bytes() == data:
        return path
    partial = path.with_name("{}.{}.partial".format(path.name, os.getpid()))
    partial.write_bytes(data)
    partial.chmod(0o755)
    partial.replace(path)
    return path
