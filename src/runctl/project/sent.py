"""What of a project a run sends, and what a person should know about it before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runctl._dataclasses import dataclass
from runctl.project.files import ProjectFiles
from runctl.project.git import GitFailed, run_git
from runctl.project.left_out import LeftOutFolder, left_out
from runctl.project.selection import (
    IGNORE_FILE,
    Limits,
    Selection,
    ignore_spec,
    lfs_pointers,
    pattern_for,
    select,
)


@dataclass(frozen=True)
class Sent:
    """A selection, and how it came about."""

    selection: Selection | None
    """``None``: nothing is sent, and the machine's own copy counts."""
    files: ProjectFiles
    include_patterns: tuple[str, ...]
    """With those for what was named and is ignored."""
    warnings: tuple[str, ...] = ()
    left_out: tuple[LeftOutFolder, ...] = ()


def nothing_sent(root: Path, include_patterns: Sequence[str]) -> Sent:
    """The plan of a run that sends nothing: it can only go by this disk."""
    return Sent(None, ProjectFiles(root), tuple(include_patterns))


def choose_sent(
    root: Path, include_patterns: Sequence[str], limits: Limits | None, named: Sequence[str]
) -> Sent:
    """What is sent of the project at ``root``. What the user names (``named``, from the root: the script, a Dockerfile)
    is sent although it is ignored, unless it looks like a secret. Raises what `select` raises."""
    selection = select(root, include_patterns, limits, named)
    patterns, warnings = tuple(include_patterns), []
    refused = {file.path for file in selection.refused}
    missing = [path for path in named if path not in selection.found and path not in refused]
    if missing:
        patterns += tuple("/" + pattern_for(path) for path in missing)
        selection = select(root, patterns, limits, named)
        for path, why in why_ignored(root, missing).items():
            warnings.append(f"{path} is ignored ({why}); it is sent all the same, as it is named here")
    for file in selection.refused:
        warnings.append(f"not sent: {file.path} ({file.reason}); --include-pattern {file.path} sends it")
    warnings += [f"not sent: {file.path} ({file.reason})" for file in selection.skipped]
    warnings += _without_a_match(include_patterns, [*selection.found, *refused])
    pointers = lfs_pointers(selection)
    if pointers:
        more = (
            f" and {len(pointers) - 1} more are Git LFS pointers" if pointers[1:] else " is a Git LFS pointer"
        )
        warnings.append(f"{pointers[0]}{more}: sent without the contents; git lfs pull fetches them")
    files = ProjectFiles(root, selection.found)
    folders = left_out(files)
    warnings += _missed_code(root, folders)
    return Sent(selection, files, patterns, tuple(warnings), folders)


def _without_a_match(include_patterns: Sequence[str], paths: Sequence[str]) -> list[str]:
    return [
        f"--include-pattern {pattern} matches no file of the project"
        for pattern in include_patterns
        if not any(map(ignore_spec([pattern.removeprefix("!")], "--include-pattern").match_file, paths))
    ]


def _missed_code(root: Path, folders: Sequence[LeftOutFolder]) -> list[str]:
    """A warning for each folder that the rules were likely not meant for."""
    suspects = {folder.path.rstrip("/"): folder for folder in folders if folder.is_code}
    outermost = {path: folder.outermost.rstrip("/") for path, folder in suspects.items() if folder.outermost}
    rules = ignoring_rules(root, [*suspects, *outermost.values()])
    warnings = []
    for path, folder in suspects.items():
        rule = rules[path]
        if path in outermost and (rule is None or rules[outermost[path]] is not None):
            # A rule for all of build/ is meant, whatever package lies deep in it.
            continue
        pattern = rule.partition(": ")[2] if rule is not None else ""
        if "/" in pattern.rstrip("/"):
            # It was written for this very folder.
            continue
        count = folder.python_files
        warnings.append(
            f"{path}/ is not sent ({rule or 'the ignore rules'}), with {count} Python file{'' if count == 1 else 's'}"
            f" in it: --include-pattern {path}/ sends it; if it is to stay here, write the rule as /{path}/"
        )
    return warnings


def sent_now(before: Sent, limits: Limits | None) -> Sent:
    """The same rules once more, for the files that are there now; what was said is not said a second time."""
    if before.selection is None:
        return before
    selection = select(before.files.root, before.include_patterns, limits)
    return Sent(selection, ProjectFiles(before.files.root, selection.found), before.include_patterns)


def does_not_count(root: Path, paths: Sequence[str], what: str = "it does not count") -> list[str]:
    """A warning for each file that would have decided something, and is not sent."""
    return [
        f"{path} is not sent ({why}), so that {what}; --include-pattern {path} sends it"
        for path, why in why_ignored(root, paths).items()
    ]


def why_ignored(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """The rule that leaves each path out, for a person: ``.gitignore:3: data/``."""
    return {path: rule or "the ignore rules" for path, rule in ignoring_rules(root, paths).items()}


def ignoring_rules(root: Path, paths: Sequence[str]) -> dict[str, str | None]:
    """File, line and pattern of the rule that leaves each path out, as far as it can be told."""
    rules: dict[str, str | None] = dict.fromkeys(paths)
    if not paths:
        return rules
    own = _own_lines(root)
    for path in paths:
        for number, line in enumerate(own, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            # A rule for a folder matches what is in it.
            spec = ignore_spec([line], IGNORE_FILE)
            if spec.match_file(path) or spec.match_file(f"{path}/x"):
                rules[path] = f"{IGNORE_FILE}:{number}: {line.strip()}"
    names = "\0".join(path for path in paths if rules[path] is None)
    if not names or not (root / ".git").exists():
        return rules
    try:
        # 1: none of them is ignored. 128: one of them lies in another repository.
        listed = run_git(
            root,
            *("check-ignore", "-v", "-z", "--stdin"),
            stdin=names.encode("utf-8", "surrogateescape"),
            accepted=(0, 1, 128),
        )
    except GitFailed:
        return rules
    fields = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
    for source, line, pattern, path in zip(*[iter(fields)] * 4, strict=False):
        rules[path.rstrip("/")] = f"{source}:{line}: {pattern}"
    return rules


def _own_lines(root: Path) -> list[str]:
    try:
        return (root / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
