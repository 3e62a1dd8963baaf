"""No module of runctl needs, by whatever way, one that needs it: imports inside functions count as well, and those for
types alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import grimp


def circles(nodes: Iterable[str], targets: Callable[[str], Iterable[str]]) -> list[set[str]]:
    """Sets of nodes that all reach each other (Tarjan, 1972), without recursion: a graph may be deep."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[set[str]] = []
    for first in nodes:
        work = [] if first in index else [(first, iter(sorted(targets(first))))]
        if work:
            index[first] = lowest[first] = len(index)
            path.append(first)
        while work:
            node, rest = work[-1]
            target = next(rest, None)
            if target is None:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    start = path.index(node)
                    circle, path = set(path[start:]), path[:start]
                    if len(circle) > 1:
                        found.append(circle)
            elif target not in index:
                index[target] = lowest[target] = len(index)
                path.append(target)
                work.append((target, iter(sorted(targets(target)))))
            elif target in path:
                lowest[node] = min(lowest[node], index[target])
    return found


def test_circles_are_found() -> None:
    edges = {"a": "b", "b": "cd", "c": "a", "d": "ef", "e": "", "f": "d"}

    assert circles(edges, lambda node: edges[node]) == [{"d", "f"}, {"a", "b", "c"}]


def test_no_module_needs_one_that_needs_it() -> None:
    graph = grimp.build_graph("runctl", cache_dir=None, exclude_type_checking_imports=False)

    found = circles(sorted(graph.modules), graph.find_modules_directly_imported_by)

    assert [sorted(circle) for circle in found] == []
