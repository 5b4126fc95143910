"""Taking away what a run that lives has in the ledger, as a person does who stops one step of it by force."""

from __future__ import annotations

from pathlib import Path

from executor.ledger.ledger import Ledger
from executor.ledger.requests import Lease
from executor.ledger.views import LedgerView


def take_away(home: Path, run: str) -> list[int]:
    """The numbers of the claims of that run, all of which are gone now."""
    with LedgerView(home) as view:
        claims = view.claims_of(run)
    with Ledger(home) as ledger:
        return ledger.take_away(
            [Lease(claim.claim, claim.token) for claim in claims if claim.token is not None],
            [claim.claim for claim in claims if claim.token is None],
        )
