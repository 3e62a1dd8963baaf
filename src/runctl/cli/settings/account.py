"""``iam-policy`` and ``setup``: what an account must allow, and what is made in it once."""

from __future__ import annotations

from decimal import Decimal

import click

from runctl.cli.context import Cli
from runctl.cli.framework.commands import Command
from runctl.cli.framework.values import BUDGET, WholeNumber
from runctl.providers.abilities.account import AccountSetup, SetupPlan, SetupRequest, SetupState
from runctl.providers.interface import require


def _account(cli: Cli, provider: str) -> AccountSetup:
    return require(cli.provider(provider).account)


def policy_command(provider: str) -> click.Command:
    """``iam-policy`` of a provider."""

    @click.command(
        cls=Command,
        examples=[
            (f"runctl {provider} iam-policy", "what whoever calls runctl may do"),
            (f"runctl {provider} iam-policy --for machine", "what its machines may do"),
            (f"runctl {provider} iam-policy --explain", "which command needs which statement"),
            (f"runctl {provider} iam-policy --part 1", "the first of the documents that fit into a policy"),
        ],
        exclusive=[("--part", "--explain")],
    )
    @click.option(
        "--for",
        "whose",
        metavar="user|machine|unattended",
        default="user",
        show_default=True,
        help="Whoever calls runctl, its machines' role, or a caller who also launches with --unattended.",
    )
    @click.option("--explain", is_flag=True, help="List the statements and the commands that need each.")
    @click.option(
        "--without",
        multiple=True,
        metavar="STATEMENT",
        help="Leave out a statement of --explain; may be repeated.",
    )
    @click.option(
        "--part",
        type=WholeNumber(1),
        metavar="N",
        help="Print the Nth of the documents that the policy has to be split into, as it is too long for one.",
    )
    @click.pass_obj
    def command(cli: Cli, whose: str, explain: bool, without: tuple[str, ...], part: int | None) -> None:
        """Print the least-privilege policy, as JSON."""
        from runctl.core.errors import UsageError
        from runctl.render.json import document
        from runctl.render.tables import table

        account = _account(cli, provider)
        if whose not in account.policies:
            raise UsageError(f"{whose!r} is not one of {', '.join(account.policies)}")
        if not explain:
            policy = account.policy(whose, without)
            if part is not None:
                parts = account.policy_parts(whose, without)
                if part > len(parts):
                    have = f"{len(parts)} parts" if parts[1:] else "one part"
                    raise UsageError(f"the policy has {have}, and no part {part}")
                policy = parts[part - 1]
            cli.emit(policy, text=lambda: document(policy), ids=[])
            return
        found = account.statements(whose, without)
        rows = [[each.name, ", ".join(each.commands), ", ".join(each.actions)] for each in found]
        cli.emit(found, text=lambda: table(["STATEMENT", "NEEDED BY", "ACTIONS"], rows))

    return command


def setup_command(provider: str) -> click.Command:
    """``setup`` of a provider."""

    @click.command(
        cls=Command,
        exclusive=[("--remove", "--alarm"), ("--remove", "--no-bucket"), ("--remove", "--no-profile")],
        needs=[("--email", "--alarm")],
        examples=[
            (f"runctl {provider} setup --dry-run", "show what is there and what is missing"),
            (
                f"runctl {provider} setup --alarm 200usd --email me@example.com",
                "with an alarm on what is spent",
            ),
            (f"runctl {provider} setup --remove", "remove all of it"),
        ],
    )
    @click.option("--no-profile", is_flag=True, help="Do not create the machines' role and instance profile.")
    @click.option("--no-bucket", is_flag=True, help="Do not create the bucket.")
    @click.option(
        "--alarm", type=BUDGET, metavar="USD", help="Tell --email when the account spends more in a month."
    )
    @click.option("--email", metavar="ADDRESS", help="Whom to tell.")
    @click.option("--remove", is_flag=True, help="Remove what setup has created.")
    @click.option("--dry-run", is_flag=True, help="Show the plan and stop.")
    @click.pass_obj
    def command(
        cli: Cli,
        no_profile: bool,
        no_bucket: bool,
        alarm: Decimal | None,
        email: str | None,
        remove: bool,
        dry_run: bool,
    ) -> int:
        """Create what runctl needs in an account, once: shown first, tagged, and removed by --remove.

        It is optional: without it, the first launch creates what it needs.
        """
        account = _account(cli, provider)
        request = SetupRequest(not no_profile, not no_bucket, alarm, email)
        plan = account.plan_removal() if remove else account.plan(request)
        if dry_run or not plan.to_do:
            _emit(cli, plan)
            return 0
        cli.say(_text(plan))
        what = ", ".join(f"the {part.kind} {part.name}" for part in plan.to_do)
        cli.confirm(f"{'Remove' if remove else 'Create or complete'} {what}?")
        done = account.remove(plan, cli.progress) if remove else account.create(plan, cli.progress)
        _emit(cli, done)
        return 1 if done.to_do else 0

    return command


def _emit(cli: Cli, plan: SetupPlan) -> None:
    cli.emit(plan, text=lambda: _text(plan), ids=[part.name for part in plan.parts])


def _text(plan: SetupPlan) -> str:
    from runctl.render.tables import table

    if not plan.parts:
        return "nothing of it is there"
    does = {SetupState.MISSING: "to be created", SetupState.INCOMPLETE: "to be completed"}
    if plan.removes:
        does = dict.fromkeys((SetupState.READY, SetupState.INCOMPLETE), "to be removed")
    does |= {SetupState.IN_USE: "stays: in use", SetupState.NOT_OURS: "left alone: not runctl's"}
    rows = [
        [part.kind, part.name, does.get(part.state, part.state.value), part.detail or part.purpose]
        for part in plan.parts
    ]
    return table(["PART", "NAME", "STATE", "WHAT"], rows)
