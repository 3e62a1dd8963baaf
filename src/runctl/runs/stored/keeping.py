"""What a run's further attempts need is kept when it starts: on this computer, and at its prefix in the store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from runctl.agent.spec import RunSpec
from runctl.core.clock import SystemClock
from runctl.core.errors import RunctlError
from runctl.machines.machine import Machine
from runctl.machines.session import Session
from runctl.project.kept import Kept, KeptProjects, NotKept, kept_projects, sent_manifest
from runctl.providers.instance_plans import InstanceRequest
from runctl.providers.interface import require
from runctl.runs.stored.recipe import Recipe, Recipes
from runctl.runs.stored.stored_run import RunFacts, prefix_of, put_machine, store_run


@contextmanager
def keeping(
    session: Session, recipe: Recipe, facts: RunFacts, machine: Machine, root: Path, spec: RunSpec
) -> Iterator[None]:
    """The recipe is kept, for the spec as it was settled. Where the run has a store, what a machine needs that knows
    nothing but its address is there before the block; what takes longer for this computer is done beside the block.

    A run starts also where that fails: it is told.
    """
    recipes, projects = Recipes(session.database), kept_projects()
    recipe = replace(recipe, spec=spec)
    recipes.put(recipe)
    tell = session.progress.warn if recipe.auto_resume else session.progress.detail
    at = prefix_of(session, recipe)
    # Until the recipe names the tree as it is kept, no other command may take it for one that nobody needs.
    with projects.holding(), ThreadPoolExecutor(2) as pool:
        keeps = pool.submit(_keep_project, projects, machine, root, spec)
        request = pool.submit(_request, recipe, machine)
        if at is not None:
            try:
                kept, trouble = keeps.result()
                if trouble:
                    raise NotKept(trouble)
                settled = _settled(recipe, kept, request.result())
                put_machine(at, spec.attempt, machine.instance, SystemClock().now())
                store_run(at, settled, facts, attempt=spec.attempt, projects=projects)
            except RunctlError as error:
                session.progress.warn(
                    f"{recipe.run_id} cannot be recovered from {at}, only by this computer: {error.message}"
                )
        yield
        kept, trouble = keeps.result()
        recipe = _settled(recipe, kept, request.result())
        for path in kept.changed[:3] if kept is not None else ():
            tell(f"{path} changes: a further attempt has it as it is now")
        for path in kept.gone[:3] if kept is not None else ():
            tell(f"{path} is gone: a further attempt does not have it")
        if trouble:
            tell(f"{recipe.run_id} cannot be recovered: {trouble}")
        if recipes.find(recipe.run_id) is not None:  # it may have ended for good by now
            recipes.put(recipe)
    recipes.prune(projects)


def _settled(recipe: Recipe, kept: Kept | None, request: InstanceRequest | None) -> Recipe:
    """With the project as it is kept. Pure."""
    recipe = replace(recipe, request=request)
    return recipe if kept is None else replace(recipe, spec=replace(recipe.spec, tree=kept.digest))


def _keep_project(
    projects: KeptProjects, machine: Machine, root: Path, spec: RunSpec
) -> tuple[Kept | None, str]:
    """What is kept, or why nothing is."""
    if spec.tree is None:
        return None, ""
    if projects.has(spec.tree):
        return Kept(spec.tree), ""
    manifest = sent_manifest(machine.instance.id, spec.project, spec.tree)
    if manifest is None:
        return None, "what was sent of the project is not known here any more"
    try:
        return projects.keep(root, manifest), ""
    except NotKept as error:
        return None, error.message


def _request(recipe: Recipe, machine: Machine) -> InstanceRequest | None:
    """What another such machine is rented by, as long as the provider can say."""
    if recipe.request is not None:
        return recipe.request
    try:
        return require(machine.provider.renting).request_like(machine.instance)
    except RunctlError:
        return None
