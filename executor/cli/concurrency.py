"""``executor instance concurrency``: the limits of pools, who holds their slots, and who waits for them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from executor.cli.options import OK
from executor.cli.text import run_text, since_text, slots_text, table
from executor.errors import UsageError, did_you_mean
from executor.instance.instance import Instance
from executor.instance.pool_ledger import pool_in
from executor.ledger.liveness import owner_is_alive
from executor.runs.home import find_run
from executor.runs.leftovers import processes_of_claims
from executor.runs.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from executor.ledger.ledger import Freed
    from executor.ledger.views import ClaimView, LedgerView, PoolView, WaitView

CODES = """\b
Exit codes:
  0  done
  1  the ledger could not be read or written
  2  the command, a name, a limit or executor.yaml is wrong, the home folder cannot be used, or what should be
     freed lives
"""

NONE_SET = "No concurrency limits set. Run `executor instance concurrency set <key> <limit>` to set limits."

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

#: Where a limit comes from, in words.
SOURCES = {"explicit": "command", "yaml": "executor.yaml", "default": "default", "unlimited": "-"}


def _epilog(*examples: str) -> str:
    lines = "".join(f"  executor instance concurrency {example}\n" for example in examples)
    return f"\b\nExamples:\n{lines}\n{CODES}"


def _instance() -> Instance:
    """The instance of this command; what its settings file says that has no effect goes to stderr."""
    instance = Instance.get()
    for notice in instance.settings.notices:
        _note(notice)
    return instance


def _note(text: str) -> None:
    click.echo(f"notice: {printable(text)}", err=True)


def _print(record: Any) -> None:
    click.echo(json.dumps(record, indent=2))


@click.group(short_help="Limits of pools: set, get, list, show, delete, free.")
def concurrency() -> None:
    """Show and change the limits of pools, whose slots all runs share.

    A limit counts from the next grant on, also for runs that are going on. 0 pauses a pool. A limit that is set here
    comes before that of executor.yaml, and that before the default of executor.yaml; with none of them a pool is
    unlimited.
    """


# --- limits ----------------------------------------------------------------------------------------------------------


@concurrency.command(
    "set",
    # so that -1 is a limit that is wrong, and no option that is not known
    context_settings={"ignore_unknown_options": True},
    epilog=_epilog("set database 2", "set database 0"),
)
@click.argument("key")
@click.argument("limit")
@json_option
def set_limit(key: str, limit: str, as_json: bool) -> int:
    """Set the limit of the pool KEY to LIMIT slots; 0 pauses it."""
    try:
        number = int(limit)
    except ValueError:
        raise UsageError(
            f"the limit of pool {key!r} cannot be {limit!r}: give a whole number of slots, 0 to pause it; to have "
            f"none: executor instance concurrency delete {key}"
        ) from None
    ledger = _instance().ledger
    before = ledger.pools()
    ledger.set_limit(key, number)
    known = {pool.name for pool in before}
    if key not in known and (hint := did_you_mean(key, known)):
        _note(f"pool {key!r} is new here{hint}")
    pool = ledger.pool(key)
    if pool.held > number:
        stay = "are held; they stay held" if pool.held > 1 else "is held; it stays held"
        _note(f"{slots_text(pool.held)} of pool {key!r} {stay}, and further claims wait")
    if as_json:
        _print(pool_record(pool))
    else:
        click.echo(f"Set concurrency limit for {printable(key)} to {number}.")
    return OK


@concurrency.command("get", epilog=_epilog("get database", "get --all"))
@click.argument("key", required=False)
@click.option("--all", "get_all", is_flag=True, help="All pools that have a limit.")
@json_option
def get_limit(key: str | None, get_all: bool, as_json: bool) -> int:
    """Show how many slots of the pool KEY are occupied, as Dagster prints it."""
    if key is None and not get_all:
        raise click.UsageError(
            "Must either specify a key argument or the `--all` option. Run `executor instance concurrency get --help` "
            "for more info."
        )
    with _instance().ledger.view() as view:
        every, dead = view.pools(), view.dead_slots()
        pools = [pool for pool in every if pool.limit is not None] if get_all else [pool_in(view, str(key))]
    records = [pool_record(pool, dead) for pool in pools]
    if as_json:
        _print({"pools": records} if get_all else records[0])
        return OK
    if get_all:
        click.echo("Concurrency limits:" if pools else NONE_SET)
    for pool in pools:
        click.echo(_occupied(pool))
        if pool.limit is None:
            _note(f"pool {pool.name!r} has no limit{did_you_mean(pool.name, {p.name for p in every} - {key})}")
    _note_dead(pools, dead)
    return OK


def _note_dead(pools: Iterable[PoolView], dead: Mapping[str, int]) -> None:
    """Say which of the slots that are held are so by the dead: they are in nobody's way."""
    for pool in pools:
        if slots := dead.get(pool.name, 0):
            are = "are held by runs that have died" if slots > 1 else "is held by a run that has died"
            back = "take them back" if slots > 1 else "takes it back"
            who = "those who ask next" if slots > 1 else "whoever asks next"
            _note(f"{slots_text(slots)} of pool {pool.name!r} {are}; {who} {back}")


def _occupied(pool: PoolView) -> str:
    return f'"{printable(pool.name)}": {pool.held} / {pool.limit or 0} slots occupied'


@concurrency.command("delete", epilog=_epilog("delete database"))
@click.argument("key")
@json_option
def delete_limit(key: str, as_json: bool) -> int:
    """Delete the limit of the pool KEY that was set by a command.

    The limit of executor.yaml, or its default, is in force again; what is held stays held.
    """
    ledger = _instance().ledger
    there = ledger.delete_limit(key)
    pool = ledger.pool(key)
    if as_json:
        _print({"deleted": there, **pool_record(pool)})
        return OK
    now = f"; {_limit_text(pool)} now" if pool.limit is not None else "; it is unlimited now"
    said = "Deleted the concurrency limit" if there else "No command has set a concurrency limit"
    click.echo(f"{said} for {printable(key)}{now}.")
    if not there:
        names = {limit.name for limit in ledger.limits().values() if limit.source == "explicit"}
        if hint := did_you_mean(key, names):
            _note(f"there is no such limit{hint}")
    return OK


def _limit_text(pool: PoolView) -> str:
    return f"it is {pool.limit} ({SOURCES[pool.source]})"


@concurrency.command("list", epilog=_epilog("list", "list --json"))
@json_option
def list_pools(as_json: bool) -> int:
    """List all pools that have a limit or are in use: who set the limit, and what is held and waited for.

    A parked claim was granted when its run had no room for the step; it keeps its place without holding a slot.
    """
    instance = _instance()
    with instance.ledger.view() as view:
        pools, default, dead = view.pools(), view.default_limit(), view.dead_slots()
    if as_json:
        _print({"default_limit": default, "pools": [pool_record(pool, dead) for pool in pools]})
        return OK
    if pools:
        rows = [
            [
                pool.name,
                "unlimited" if pool.limit is None else "0 (paused)" if pool.paused else str(pool.limit),
                SOURCES[pool.source],
                *map(str, (pool.held, pool.waiting, pool.parked)),
            ]
            for pool in pools
        ]
        click.echo("\n".join(table(["pool", "limit", "set by", "held", "waiting", "parked"], rows)))
    elif default is None:
        click.echo(NONE_SET)
    if default is not None:
        click.echo(f"every other pool: {default} (default of executor.yaml)")
    _note_dead(pools, dead)
    return OK


# --- who holds and who waits -----------------------------------------------------------------------------------------


@concurrency.command("show", epilog=_epilog("show database", "show database --json"))
@click.argument("key")
@json_option
def show_pool(key: str, as_json: bool) -> int:
    """Show who holds slots of the pool KEY, and who waits for them, in the order in which they will be granted."""
    instance = _instance()
    with instance.ledger.view() as view:
        pool, holders, waiters, parked = pool_in(view, key), view.holders(key), view.waiters(key), view.parked(key)
        living = {claim.claim: view.is_alive(claim) for claim in holders}
        driven = {claim.claim: owner_is_alive(instance.home, claim.owner) for claim in holders}
        dead = view.dead_slots()
    pids = {claim.claim: [p.pid for p in processes_of_claims(claim.folder, [claim.claim])] for claim in holders}
    if as_json:
        record = pool_record(pool, dead)
        record["holders"] = [
            {
                **claim_record(claim, key),
                "alive": living[claim.claim],
                "driver_alive": driven[claim.claim],
                "pids": pids[claim.claim],
            }
            for claim in holders
        ]
        record["waiters"] = [wait_record(wait, key) for wait in waiters]
        record["parked_claims"] = [claim_record(claim, key) for claim in parked]
        _print(record)
        return OK
    limit = "unlimited" if pool.limit is None else f"{pool.held} of {slots_text(pool.limit)} held"
    if pool.paused:
        limit = f"paused (limit 0), {pool.held} held"
    source = "" if pool.limit is None else f", limit set by {SOURCES[pool.source]}"
    lines = [f"pool {printable(key)}: {limit}{source}"]
    lines += ["held by:" if holders else "held by nobody"]
    for claim in holders:
        text = f"  {_holder_text(claim, key, pids[claim.claim])}"
        if not living[claim.claim]:
            text += "; its run has died, and whoever asks next takes this back"
        elif not driven[claim.claim]:
            text += "; its driver died, and the slots stay taken until this process ends"
        lines.append(text)
    lines += ["waiting, in this order:" if waiters else "nobody waits"]
    lines += [f"  {number}. {_waiter_text(wait, key)}" for number, wait in enumerate(waiters, 1)]
    if parked:
        lines += ["parked, until their runs have room:", *[f"  {_claim_text(claim, key)}" for claim in parked]]
    click.echo("\n".join(lines))
    return OK


def _claim_text(claim: ClaimView, key: str) -> str:
    return (
        f"run {run_text(claim.run)}, step {printable(claim.step)}, attempt {claim.attempt}, "
        f"{slots_text(dict(claim.needs)[key])}"
    )


def _holder_text(claim: ClaimView, key: str, pids: list[int]) -> str:
    process = f"pid {' '.join(map(str, pids))}" if pids else f"driver pid {claim.pid}"
    return f"{_claim_text(claim, key)}, {process}, {since_text(claim.since)}"


def _waiter_text(wait: WaitView, key: str) -> str:
    reasons = " and ".join(map(str, wait.standing.reasons)) or "nothing: it is granted at the next change"
    overdue = ", overdue" if wait.overdue else ""
    claim = wait.view
    return (
        f"{_claim_text(claim, key)}, priority {claim.priority}{overdue}, {since_text(claim.since)}, waits for {reasons}"
    )


# --- taking away -----------------------------------------------------------------------------------------------------


@concurrency.command("free", epilog=_epilog("free 7f3a12cd", "free last load", "free 7f3a12cd --force"))
@click.argument("run")
@click.argument("step", required=False)
@click.option("--force", is_flag=True, help="Stop what lives, and free it then.")
@json_option
def free(run: str, step: str | None, force: bool, as_json: bool) -> int:
    """Free the slots that RUN, or one STEP of it, has left behind. RUN may be shortened; `last` is the newest.

    This is never needed: the slots of what has died are taken by whoever waits for them. What lives is left alone, and
    the exit code is 2, unless --force stops it: the driver of the run and its steps; with STEP, the processes of that
    step, whose attempt ends by that.
    """
    instance = Instance.get()
    with instance.ledger.view(as_it_is=True) as view:
        whole = _find_run(instance, view, run)
        claims = {claim.claim: claim for claim in view.claims_of(whole) if step in {None, claim.step}}
        steps = {claim.step for claim in view.claims_of(whole)}
    if step is not None and not claims:
        raise UsageError(
            f"step {step!r} of run {run_text(whole)} holds nothing and waits for nothing" + did_you_mean(step, steps)
        )
    freed = instance.ledger.free(whole, step, force=force)
    if as_json:
        _print(
            {
                "run": whole,
                "freed": [_freed_record(claims, claim) for claim in freed.claims],
                "alive": [_freed_record(claims, claim) for claim in freed.alive],
                "stopped_pids": list(freed.stopped),
            }
        )
    else:
        click.echo(_freed_text(whole, claims, freed), nl=bool(freed.claims or freed.stopped or not freed.alive))
    if freed.alive:
        first = claims.get(freed.alive[0])
        whom = _living_text(instance.home, first) if first is not None else "it lives"
        words = " ".join(filter(None, [run_text(whole), step]))
        raise UsageError(
            f"{len(freed.alive)} claim{'s' if len(freed.alive) > 1 else ''} of run {run_text(whole)} not freed: "
            f"{whom}; to stop that and free them then: "
            f"executor instance concurrency free {words} --force"
        )
    return OK


def _living_text(home: Path, claim: ClaimView) -> str:
    """What lives of a claim: its driver, or what outlived it."""
    if owner_is_alive(home, claim.owner):
        return f"process {claim.pid}, which drives it, lives, or a process of the step does"
    pids = " ".join(str(process.pid) for process in processes_of_claims(claim.folder, [claim.claim]))
    who = f"process {pids}" if pids else "a process that cannot be seen from here"
    return f"its driver died, and {who} of step {printable(claim.step)} lives"


def _find_run(instance: Instance, view: LedgerView, name: str) -> str:
    """The whole id of a run that has a folder, or that the ledger knows although its folder is gone."""
    try:
        return find_run(instance.home, name).run_id
    except UsageError:
        known = [run for run in view.runs() if name and run.startswith(name)]
        if len(known) == 1:
            return known[0]
        raise


def _freed_text(run: str, claims: dict[int, ClaimView], freed: Freed) -> str:
    lines = [f"stopped process {pid}" for pid in freed.stopped]
    for number in freed.claims:
        claim = claims.get(number)
        if claim is None:
            continue
        what = " and ".join(f"{slots_text(slots)} of pool {printable(pool)}" for pool, slots in claim.needs)
        had = "held" if claim.state == "granted" else "waited for"
        lines.append(f"freed step {printable(claim.step)} of run {run_text(run)}, which {had} {what}")
    if not lines and not freed.alive:
        lines.append(f"run {run_text(run)} has left nothing behind")
    return "\n".join(lines)


def _freed_record(claims: dict[int, ClaimView], number: int) -> dict[str, object]:
    claim = claims.get(number)
    if claim is None:
        return {"claim": number}
    return {"claim": number, "step": claim.step, "attempt": claim.attempt, "pools": dict(claim.needs)}


# --- as JSON ---------------------------------------------------------------------------------------------------------


def pool_record(pool: PoolView, dead: Mapping[str, int] | None = None) -> dict[str, object]:
    """A pool as plain data; ``dead``: held slots by pool that whoever asks next takes back."""
    record: dict[str, object] = {
        "pool": pool.name,
        "limit": pool.limit,
        "source": pool.source,
        "paused": pool.paused,
        "held": pool.held,
        "claims": pool.claims,
        "waiting": pool.waiting,
        "parked": pool.parked,
    }
    return record if dead is None else {**record, "held_by_dead": dead.get(pool.name, 0)}


def claim_record(claim: ClaimView, pool: str) -> dict[str, object]:
    """A claim as plain data; times in seconds since the epoch."""
    return {
        "claim": claim.claim,
        "run": claim.run,
        "step": claim.step,
        "attempt": claim.attempt,
        "slots": dict(claim.needs)[pool],
        "pools": dict(claim.needs),
        "priority": claim.priority,
        "driver_pid": claim.pid,
        "host": claim.host,
        "filed_at": claim.filed_at,
        "granted_at": claim.granted_at,
        "token": claim.token,
    }


def wait_record(wait: WaitView, pool: str) -> dict[str, object]:
    """A claim that waits as plain data, with its reasons."""
    return {
        **claim_record(wait.view, pool),
        "overdue": wait.overdue,
        "passed": wait.view.passed,
        "waits_for": [{**reason._asdict(), "text": str(reason)} for reason in wait.standing.reasons],
    }
