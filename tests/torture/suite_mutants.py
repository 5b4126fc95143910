"""Bugs that a named test of the suite finds: each names the invariant that it breaks, and that test."""

from __future__ import annotations

from dataclasses import dataclass

from tests.torture.planting import Edit, plant

DATABASE = "executor.database."
LEDGER = "executor.ledger."
SCHEDULER = "executor.scheduler.scheduler"
IN_SQLITE = "tests/database/test_sqlite.py::"
IN_LEDGER = "tests/ledger/test_ledger.py::"
IN_CLIENT = "tests/ledger/test_client.py::"
IN_LIVENESS = "tests/ledger/test_liveness.py::"
IN_CLAIMS = "tests/runs/test_claims.py::"
IN_POOLS = "tests/runs/test_pools.py::"
IN_SEVERAL_RUNS = "tests/scheduler/test_several_runs.py::"


@dataclass(frozen=True, kw_only=True)
class SuiteMutant:
    """One planted bug."""

    says: str
    breaks: str  #: ids of invariants
    edits: tuple[Edit, ...]
    test: str


def _edit(module: str, old: str, new: str) -> tuple[Edit, ...]:
    return ((module, old, new),)


MUTANTS = [
    SuiteMutant(
        says="a grant that was undone leaves its tokens to be given again",
        breaks="I7",
        edits=_edit(DATABASE + "ledger_schema", "time.time_ns() // 10**6 * NUMBERS_PER_MS", "0"),
        test=IN_LEDGER + "test_numbers_and_tokens_never_come_twice_also_when_the_ledger_is_made_anew",
    ),
    SuiteMutant(
        says="the database lets anybody grant over a limit",
        breaks="I1",
        edits=_edit(DATABASE + "ledger_schema", "create=TABLES + GUARDS", "create=TABLES"),
        test=IN_LEDGER + "test_the_database_itself_refuses_to_grant_over_a_limit",
    ),
    SuiteMutant(
        says="whoever is granted is rung after the commit",
        breaks="I17",
        edits=(
            (
                LEDGER + "round",
                "                bell.ring(self._home, owner)  #",
                "                LATER.append(owner)  #",
            ),
            (LEDGER + "round", "SHAPES = 256\n", "SHAPES = 256\nLATER = []\n"),
            (
                LEDGER + "ledger",
                "    def _round(self",
                (
                    "    def ring_late(self):\n"
                    "        from executor.ledger.round import LATER\n"
                    "        while LATER:\n            bell.ring(self.home, LATER.pop())\n\n"
                    "    def _round(self"
                ),
            ),
            (
                LEDGER + "ledger",
                "                change.touch({pool})\n            change.settle()\n",
                "                change.touch({pool})\n            change.settle()\n        self.ring_late()\n",
            ),
        ),
        test=IN_LEDGER + "test_whoever_is_granted_is_rung_also_by_one_who_dies_right_after",
    ),
    SuiteMutant(
        says="those who were dead before one began to wait are not looked at",
        breaks="I11",
        edits=_edit(LEDGER + "ledger", "            if look:\n", "            if False:\n"),
        test=IN_CLIENT + "test_a_run_that_died_before_anybody_waited_is_found_by_the_first_who_does",
    ),
    SuiteMutant(
        says="who is dying when listening begins is looked at once only",
        breaks="I11 I17",
        edits=_edit(LEDGER + "deaths", "                if other != owner:", "                if False:"),
        test=IN_CLIENT + "test_a_holder_that_ended_just_as_listening_began_is_found_although_no_notice_comes",
    ),
    SuiteMutant(
        says="who drops its lock late is looked at no more by then",
        breaks="I11 I17",
        edits=_edit(LEDGER + "deaths", "LAST_PROBE_S = 1.0", "LAST_PROBE_S = 0.1"),
        test=IN_CLIENT + "test_a_holder_that_needs_long_to_drop_its_lock_after_the_notice_is_looked_at_until_then",
    ),
    SuiteMutant(
        says="first it is looked who lives, then it is listened for deaths",
        breaks="I11 I17",
        edits=_edit(
            LEDGER + "client",
            "if look and self._deaths is None:",
            "if look and self._deaths is None and self._looked_at:",
        ),
        test=IN_CLIENT + "test_the_death_of_a_run_is_heard_by_who_waits_for_it",
    ),
    SuiteMutant(
        says="a process that outlived its run is listened for only by those who wait for its pools at that moment",
        breaks="I11 I17",
        edits=_edit(
            LEDGER + "client",
            "self._deaths.watch_orphans(outcome.orphans, now)",
            (
                "self._deaths.watch_orphans(\n                [orphan for orphan in outcome.orphans "
                "if not self._wishes.pools().isdisjoint(orphan.pools)], now)"
            ),
        ),
        test=IN_CLIENT + "test_a_process_that_outlived_its_run_while_its_pool_was_not_waited_for_is_heard_by_who_waits_"
        "for_it_again",
    ),
    SuiteMutant(
        says="the whole ledger is read for each claim",
        breaks="I15 I33",
        edits=_edit(
            LEDGER + "rows",
            "    todo = list(found)\n",
            "    todo = list(found)\n    execute('SELECT * FROM claim').fetchall()\n",
        ),
        test=IN_LEDGER + "test_ten_thousand_that_wait_elsewhere_do_not_slow_a_claim",
    ),
    SuiteMutant(
        says="all who wait for a pool are read for each grant",
        breaks="I33",
        edits=_edit(
            LEDGER + "rows",
            "        ):\n            yield Waiter(*row)",
            "        ).fetchall():\n            yield Waiter(*row)",
        ),
        test=IN_LEDGER + "test_ten_thousand_that_wait_for_one_pool_do_not_slow_its_hand_over",
    ),
    SuiteMutant(
        says="a limit that is raised is heard of at the next look",
        breaks="I18",
        edits=_edit(LEDGER + "bell", "        os.write(fd, what)\n", "        pass\n"),
        test=IN_CLIENT + "test_a_limit_raised_by_a_command_is_heard_at_once",
    ),
    SuiteMutant(
        says="a claim that becomes overdue is not looked at",
        breaks="I12",
        edits=_edit(
            LEDGER + "client",
            "            self._wishes.note_overdue(now, self._ledger.aging_s)\n",
            "            pass\n",
        ),
        test=IN_CLIENT + "test_a_claim_that_becomes_overdue_is_looked_at_then",
    ),
    SuiteMutant(
        says="the transaction of a killed process is half kept",
        breaks="I6 I35",
        edits=(
            (DATABASE + "sqlite", '            self.execute("BEGIN IMMEDIATE")\n', "            pass\n"),
            (DATABASE + "sqlite", '                self.execute("COMMIT")\n', "                pass\n"),
        ),
        test=IN_LEDGER + "test_a_claim_of_two_pools_is_never_half_granted_whoever_dies_when",
    ),
    SuiteMutant(
        says="writers do not lock the file among themselves",
        breaks="I32",
        edits=(
            (DATABASE + "lock", "                fcntl.flock(self._fd, kind)\n", "                pass\n"),
            (DATABASE + "sqlite", "BUSY_TIMEOUT_MS = 1000", "BUSY_TIMEOUT_MS = 0"),
        ),
        test=IN_SQLITE + "test_many_processes_write_at_once_and_nobody_ever_meets_a_locked_database",
    ),
    SuiteMutant(
        says="a file is made in several steps",
        breaks="I35",
        edits=(
            (DATABASE + "schema", '    connection.execute("BEGIN IMMEDIATE")\n', ""),
            (DATABASE + "schema", '    connection.execute("COMMIT")\n', ""),
        ),
        test=IN_SQLITE + "test_whoever_dies_while_making_the_file_leaves_nothing_in_the_way",
    ),
    SuiteMutant(
        says="a later version is used as if it were ours",
        breaks="I37",
        edits=_edit(DATABASE + "schema", "    if version > schema.version:", "    if False:"),
        test=IN_SQLITE + "test_a_file_of_a_later_version_is_refused_and_left_alone",
    ),
    SuiteMutant(
        says="nobody sees that the file was deleted or replaced",
        breaks="I37",
        edits=_edit(DATABASE + "sqlite", "            database._check_file()  # noqa: SLF001\n", ""),
        test=IN_SQLITE + "test_harm_done_to_the_file_in_use_is_noticed_and_nothing_new_put_there",
    ),
    SuiteMutant(
        says="nobody sees that the lock file was removed",
        breaks="I37",
        edits=_edit(DATABASE + "sqlite", "        if not self.lock.is_there():", "        if False:"),
        test=IN_SQLITE + "test_a_lock_file_that_was_removed_in_use_is_noticed",
    ),
    SuiteMutant(
        says="a ledger that was deleted is made anew under running work",
        breaks="I37",
        edits=_edit(
            LEDGER + "folders", "    if found:\n        raise DatabaseLost", "    if False:\n        raise DatabaseLost"
        ),
        test=IN_LEDGER + "test_a_ledger_that_was_deleted_is_not_made_anew_while_a_run_lives",
    ),
    SuiteMutant(
        says="an older copy of the ledger is used under running work",
        breaks="I37",
        edits=_edit(LEDGER + "ledger", "            if self._stays_alive(stray):\n", "            if False:\n"),
        test=IN_LEDGER + "test_an_older_copy_of_the_ledger_gives_nothing_away_while_a_run_lives_that_it_does_not_know",
    ),
    SuiteMutant(
        says="whether an owner lives is asked of its pid",
        breaks="I41",
        edits=_edit(
            LEDGER + "liveness",
            "    return bool(probe(owner_file(home, owner), (0,)))",
            (
                "    from pathlib import Path\n"
                "    path = Path(owner_file(home, owner))\n"
                "    text = path.read_text() if path.exists() else ''\n"
                "    return text.isdecimal() and start_time_of(int(text)) is not None"
            ),
        ),
        test=IN_LIVENESS + "test_a_pid_that_is_used_again_makes_nobody_alive",
    ),
    SuiteMutant(
        says="a forked child uses its parent's connection",
        breaks="I42",
        edits=_edit(
            DATABASE + "sqlite",
            "        if os.getpid() != self._pid:\n            raise Forked",
            "        if False:\n            raise Forked",
        ),
        test=IN_SQLITE + "test_a_forked_child_may_not_use_the_connection",
    ),
    SuiteMutant(
        says="a forked child closes its parent's connection when it ends",
        breaks="I42",
        edits=_edit(DATABASE + "sqlite", "        atexit.register(_keep_for_ever)", "        pass"),
        test=IN_SQLITE + "test_a_forked_child_that_ends_its_interpreter_closes_no_connection",
    ),
    SuiteMutant(
        says="the owner's lock travels into forked children",
        breaks="I11 I42",
        edits=_edit(
            LEDGER + "liveness",
            "    hygiene.register(fd)\n    if not lock_byte(fd, 0):",
            "    if not lock_byte(fd, 0):",
        ),
        test=IN_LIVENESS + "test_an_owner_s_lock_does_not_travel_into_a_forked_child",
    ),
    SuiteMutant(
        says="a worker whose owner is dead works all the same",
        breaks="I1 I4",
        edits=_edit(
            LEDGER + "liveness",
            "    if owner_is_alive(home, owner):\n        return lock",
            "    if True:\n        return lock",
        ),
        test=IN_LIVENESS + "test_a_worker_whose_owner_died_before_it_had_its_lock_begins_nothing",
    ),
    SuiteMutant(
        says="an owner that ends lives until its steps were looked at",
        breaks="I1 I4",
        edits=_edit(
            LEDGER + "ledger", "                hygiene.close(owner.lock_fd)\n                lock_fd = None\n", ""
        ),
        test=IN_LEDGER + "test_a_worker_that_takes_its_lock_when_its_owner_has_just_ended_begins_nothing",
    ),
    SuiteMutant(
        says="a driver gives slots back while a process of the step carries their lock",
        breaks="I1 I4",
        edits=_edit(LEDGER + "client", "        if is_worked_on(files, lease.claim):", "        if False:"),
        test=IN_POOLS + "test_in_process_a_forked_child_keeps_the_slot_until_it_ends",
    ),
    SuiteMutant(
        says="a worker takes no lock for its step",
        breaks="I4",
        edits=_edit("executor.workers.child", "        if claim and self._lock_step:\n", "        if False:\n"),
        test=IN_POOLS + "test_while_a_step_runs_its_input_and_output_carry_its_lock_and_then_nothing_does",
    ),
    SuiteMutant(
        says="a worker that goes on to the next step keeps the lock of the last",
        breaks="I11",
        edits=_edit("executor.workers.claimed", "        lock.unlock()\n", "        pass\n"),
        test=IN_POOLS + "test_while_a_step_runs_its_input_and_output_carry_its_lock_and_then_nothing_does",
    ),
    SuiteMutant(
        says="a result counts although its slots were freed by force",
        breaks="I7",
        edits=_edit(
            "executor.runs.claims",
            "        return self._ask(lambda: self._client.is_held(lease), True)\n",
            "        return True\n",
        ),
        test=IN_POOLS + "test_a_result_whose_slots_were_freed_by_force_meanwhile_does_not_count",
    ),
    SuiteMutant(
        says="who waits with a low priority has the slots before the next step of a run of a high one",
        breaks="I14",
        edits=_edit(LEDGER + "ledger", "fetchone()[0] >= priority for", "fetchone() for"),
        test=IN_CLAIMS + "test_a_run_with_steps_of_a_higher_priority_gives_back_and_asks_in_one_exchange",
    ),
    SuiteMutant(
        says="slots are given back with a success while processes of its step are still ending",
        breaks="I11",
        edits=_edit("executor.runs.claims", "claim.let_go = event.freed and self", "claim.let_go = bool(self) or self"),
        test=IN_CLAIMS + "test_the_slots_of_a_step_that_is_not_known_to_be_over_are_not_given_back_with_its_success",
    ),
    SuiteMutant(
        says="who waits has the slots before a parked claim of the run, which is older",
        breaks="I13 I20",
        edits=_edit("executor.runs.claims", "return not parked and self._client", "return self._client"),
        test=IN_CLAIMS + "test_a_parked_claim_of_the_run_has_its_place_before_whoever_came_later",
    ),
    SuiteMutant(
        says="slots are given back first where nobody can take them, and a later one of low priority gets in",
        breaks="I14",
        edits=_edit(LEDGER + "ledger", "all(whose == owner.id for _, whose, _ in change.granted)", "not owner.id"),
        test=IN_CLIENT + "test_an_announcement_is_no_reason_to_ask_the_ledger",
    ),
    SuiteMutant(
        says="a bell so full of announcements that it could not be rung is not heard",
        breaks="I17",
        edits=_edit(LEDGER + "bell", " or not whole  #", "  #"),
        test="tests/ledger/test_bell.py::test_a_bell_so_full_of_announcements_that_a_ring_had_no_room_counts_as_rung",
    ),
    SuiteMutant(
        says="a step that was granted its slots and has not begun is freed by force",
        breaks="I1 I4",
        edits=_edit("executor.instance.stopping", "    _refuse_not_begun(ledger, held)\n    pids", "    pids"),
        test=IN_POOLS + "test_a_step_whose_worker_is_stopped_before_it_begins_is_not_freed_by_force",
    ),
    SuiteMutant(
        says="what was granted and is withdrawn before that was told stays taken",
        breaks="I11",
        edits=_edit("executor.runs.claims", "        self._hear()\n        if claim.ticket", "        if claim.ticket"),
        test=IN_CLAIMS + "test_what_was_granted_and_is_withdrawn_before_it_was_told_is_given_back",
    ),
    SuiteMutant(
        says="what waits for slots waits on when the ledger is gone",
        breaks="I37",
        edits=_edit("executor.runs.claims", "if claim.lease is None and not claim.parked and", "if False and"),
        test=IN_CLAIMS + "test_when_the_ledger_is_deleted_what_waits_fails_and_what_is_held_goes_on",
    ),
    SuiteMutant(
        says="a step that has ended gives its slots back to nobody",
        breaks="I11 I19",
        edits=_edit(SCHEDULER, "commands.append(self._claims.release(index))", "self._claims.release(index)"),
        test=IN_SEVERAL_RUNS + "test_runs_that_want_any_pools_together_all_end",
    ),
]


def plant_by_name(says: str) -> None:
    """Plant the bug with this sentence in the present process."""
    plant(next(mutant for mutant in MUTANTS if mutant.says == says).edits)
