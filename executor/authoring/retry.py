"""When a failed attempt is tried again: ``RetryPolicy``, and the two exceptions with which a step decides itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from executor.errors import DefinitionError

#: No retry waits longer: a year, in seconds. A delay that doubles gets there soon, and no clock has room for the rest.
LONGEST_DELAY_S = 365 * 86400.0

# So many doublings are more than a year, of whatever delay a clock can tell from none.
_MOST_DOUBLINGS = 64


class Backoff(Enum):
    """How the delay grows from one attempt to the next."""

    LINEAR = "LINEAR"  #: attempt n waits n x delay
    EXPONENTIAL = "EXPONENTIAL"  #: attempt n waits (2^n - 1) x delay


class Jitter(Enum):
    """How chance changes a delay, so that steps that failed together do not come back together."""

    FULL = "FULL"  #: anything from 0 to the computed delay
    PLUS_MINUS = "PLUS_MINUS"  #: the computed delay, plus or minus up to one base delay


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Try a failed step again, up to ``max_retries`` times, each after a delay.

    ``delay`` is in seconds; without one the step is ready again at once. The delays are Dagster's:
    ``LINEAR`` waits ``n * delay`` after attempt n, ``EXPONENTIAL`` ``(2**n - 1) * delay``.
    None waits longer than a year.

    Raises:
        DefinitionError: a negative number, or ``backoff`` or ``jitter`` without a ``delay``.
    """

    max_retries: int = 1
    delay: float | None = None
    backoff: Backoff | None = None
    jitter: Jitter | None = None

    def __post_init__(self) -> None:
        if type(self.max_retries) is not int or self.max_retries < 0:
            raise DefinitionError(f"RetryPolicy(max_retries={self.max_retries!r}): give a whole number, 0 or more")
        for name, value, kind in (("backoff", self.backoff, Backoff), ("jitter", self.jitter, Jitter)):
            if value is not None and not isinstance(value, kind):
                choices = " or ".join(f"{kind.__name__}.{choice.name}" for choice in kind)
                raise DefinitionError(f"RetryPolicy({name}={value!r}): give {choices}")
        if self.delay is None:
            if self.backoff is not None or self.jitter is not None:
                raise DefinitionError("RetryPolicy: backoff and jitter change a delay; give delay= in seconds as well")
        elif type(self.delay) not in (int, float) or not 0 <= self.delay < float("inf"):
            raise DefinitionError(f"RetryPolicy(delay={self.delay!r}): give seconds, 0 or more")

    def delay_s(self, attempt: int, chance: float) -> float:
        """Seconds to wait after the failure of attempt number ``attempt``; ``chance`` is a number in [0, 1)."""
        if not self.delay:
            return 0.0
        delay = float(min(self.delay, LONGEST_DELAY_S))
        wait = delay
        if self.backoff is Backoff.LINEAR:
            wait = delay * attempt
        elif self.backoff is Backoff.EXPONENTIAL:
            wait = (2.0 ** min(attempt, _MOST_DOUBLINGS) - 1) * delay
        wait = min(wait, LONGEST_DELAY_S)
        if self.jitter is Jitter.FULL:
            wait *= chance
        elif self.jitter is Jitter.PLUS_MINUS:
            wait += 2 * chance * delay - delay
        return min(max(0.0, wait), LONGEST_DELAY_S)


class Failure(Exception):
    """Raised by a step to fail on purpose, with a ``description`` for people.

    With ``allow_retries=False`` no retry policy applies: the attempt was the last.
    """

    def __init__(
        self, description: str | None = None, metadata: dict[str, object] | None = None, *, allow_retries: bool = True
    ) -> None:
        super().__init__(description)
        self.description, self.metadata, self.allow_retries = description, dict(metadata or {}), allow_retries

    def __str__(self) -> str:
        return self.description or "the step failed on purpose"


class RetryRequested(Exception):
    """Raised by a step to be tried again; stronger than any retry policy.

    At most ``max_retries`` times in all, each after ``seconds_to_wait``; beyond that the step fails.
    """

    def __init__(self, max_retries: int = 1, seconds_to_wait: float | None = None) -> None:
        super().__init__(max_retries, seconds_to_wait)
        self.max_retries, self.seconds_to_wait = max_retries, seconds_to_wait

    def __str__(self) -> str:
        return f"the step asked to be tried again (at most {self.max_retries} times)"
