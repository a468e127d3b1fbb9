"""Counts what happens to calls. It adds numbers and does nothing else."""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

from resilience_instrument.native import allocate_lock
from resilience_instrument.signals import catalog, exemplars, plain, standing
from resilience_instrument.signals.layout import EXEMPLARS, LAYOUTS, PLAIN
from resilience_instrument.signals.store import ENDPOINT, OTHER, SERVICE, Block

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.call import Call
    from resilience_instrument.events import (
        ActingPolicy,
        CallOutcome,
        FallbackKind,
        FallbackOutcome,
        RejectingPolicy,
        SkipReason,
        Track,
        Transition,
    )
    from resilience_instrument.signals.catalog import Metric
    from resilience_instrument.signals.layout import Cells, Layout
    from resilience_instrument.signals.standing import Standing
    from resilience_instrument.signals.store import Store
    from resilience_instrument.verdict import Judgement

_E: Final = LAYOUTS[ENDPOINT]
_S: Final = LAYOUTS[SERVICE]
_LAST_NAMED: Final = 9

_CALLS: Final = {o: _E.at(catalog.API_REQUEST, o) for o in catalog.CALL_OUTCOMES}
_CALL_BUCKETS: Final = _E.at(catalog.API_REQUEST_DURATION)
_CALL_SUM: Final = _E.sum_at(catalog.API_REQUEST_DURATION)
_RETRIES: Final = {
    value: _E.at(catalog.API_RETRY, value)
    for value in catalog.API_RETRY.labels["attempt"]
}
_RETRY_SUCCESS: Final = _E.at(catalog.API_RETRY_SUCCESS)
_TIMEOUTS: Final = _E.at(catalog.API_TIMEOUT)
_ATTEMPTS: Final = {
    outcome: _E.at(catalog.ATTEMPT, outcome)
    for outcome in catalog.ATTEMPT.labels["outcome"]
}
_ATTEMPT_BUCKETS: Final = {
    o: (_E.at(catalog.ATTEMPT_DURATION, o), _E.sum_at(catalog.ATTEMPT_DURATION, o))
    for o in catalog.ATTEMPT_OUTCOMES
}
# Names of this module are found faster than those of another.
_EXEMPLARS: Final = LAYOUTS[EXEMPLARS].counts
_BUCKETS: Final = catalog.BUCKETS
_QUICK: Final = plain.QUICK
_SKIPPED: Final = {
    reason: _S.at(catalog.RETRY_SKIPPED, reason)
    for reason in catalog.RETRY_SKIPPED.labels["reason"]
}
_REJECTED: Final = {
    policy: _S.at(catalog.REJECTED, policy)
    for policy in catalog.REJECTED.labels["policy"]
}
_CHANGES: Final = {
    pair: _S.at(catalog.BREAKER_CHANGES, *pair)
    for pair in catalog.BREAKER_CHANGES.combinations()
}
_WOULD_ACT, _WOULD_SAVE, _WOULD_LOSE = (
    {policy: _S.at(metric, policy) for policy in metric.labels["policy"]}
    for metric in (catalog.WOULD_ACT, catalog.WOULD_SAVE, catalog.WOULD_LOSE)
)
_FALLBACKS: Final = {
    pair: _E.at(catalog.FALLBACK, *pair) for pair in catalog.FALLBACK.combinations()
}
_UNBOUNDED: Final = LAYOUTS[catalog.UNBOUNDED.scope].at(catalog.UNBOUNDED)
_OVERFLOW_SCOPE: Final = catalog.LABEL_OVERFLOW.scope
_OVERFLOWS: Final = {
    kind: LAYOUTS[_OVERFLOW_SCOPE].at(catalog.LABEL_OVERFLOW, kind)
    for kind in catalog.LABEL_OVERFLOW.labels["kind"]
}
_RELOADS: Final = {
    outcome: LAYOUTS[catalog.CONFIG_RELOAD.scope].at(catalog.CONFIG_RELOAD, outcome)
    for outcome in catalog.CONFIG_RELOAD.labels["outcome"]
}
_FAULTS: Final = LAYOUTS[catalog.AGENT_ERROR.scope].at(catalog.AGENT_ERROR)


@final
class MetricsObserver:
    """Counts into a store.

    Args:
        store: Where the numbers are kept.
        stand: Returns how a service stands now, None if that is not known.
    """

    __slots__ = ("_infos", "_lock", "_saved", "_stand", "_store")

    def __init__(
        self,
        store: Store,
        stand: Callable[[str], Standing | None] = lambda _service: None,
    ) -> None:
        self._store = store
        self._stand = stand
        self._infos: list[tuple[Metric, tuple[str, ...]]] = []
        self._lock = allocate_lock()
        # Fractions of seconds that would have been saved and are not counted yet.
        self._saved: dict[tuple[str, str], float] = {}

    def call_started(self, call: Call) -> None:
        """Count a call under way. Its endpoint is shown from now on."""
        service = self._plain(call).labels[0]
        counts = self._store.calm(service).counts
        counts[plain.UNDER_WAY] += 1
        if not counts[standing.STATE]:
            self.restate(service)

    def tally(self, call: Call) -> PlainTally:
        """Return what counts calls like this one that succeed at once."""
        found = self._plain(call)
        found.observer = self
        return found

    def attempt_started(self, call: Call, number: int) -> None:
        """Count an attempt after the first."""
        if number > 1:
            name = str(number) if number <= _LAST_NAMED else "10+"
            self._endpoint(call).counts[_RETRIES[name]] += 1

    def attempt_ended(
        self,
        call: Call,
        number: int,
        judgement: Judgement,
        seconds: float,
    ) -> None:
        """Count an attempt by its outcome, and how long it took.

        A success at once is most often all there is to tell: it waits for the end.
        """
        if number == 1 and judgement.outcome == "success":
            call.at_once = seconds
            return
        block = self._endpoint(call)
        outcome = judgement.outcome
        phase = judgement.timeout
        if phase is not None:
            block.counts[_TIMEOUTS] += 1
            block.counts[_ATTEMPTS[f"timeout_{phase.value}"]] += 1
        else:
            block.counts[_ATTEMPTS[outcome]] += 1
        _observe(block, *_ATTEMPT_BUCKETS[outcome], seconds)

    def attempt_cancelled(self, call: Call, number: int) -> None:
        """Count nothing: a cancelled attempt says nothing."""

    def retry_scheduled(
        self,
        call: Call,
        number: int,  # noqa: ARG002 - the shape of an observer
        delay: float,  # noqa: ARG002 - likewise
        reason: str,  # noqa: ARG002 - likewise
    ) -> None:
        """State what is left of the budget; the attempt counts when it starts."""
        self.restate(call.service)

    def retry_skipped(self, call: Call, reason: SkipReason) -> None:
        """Count why a transient failure was not tried again."""
        self._store.service(call.service).counts[_SKIPPED[reason]] += 1

    def rejected(self, call: Call, policy: RejectingPolicy) -> None:
        """Count a call that was not let through."""
        self._store.service(call.service).counts[_REJECTED[policy]] += 1

    def transitioned(self, call: Call, transition: Transition) -> None:
        """Count a transition of the service's circuit."""
        pair = (transition.from_state, transition.to_state)
        self._store.service(call.service).counts[_CHANGES[pair]] += 1
        self.restate(call.service)

    def would_act(
        self, call: Call, policy: ActingPolicy, saved: float, lost: int
    ) -> None:
        """Count what would have been done, what it would have saved and cost."""
        block = self._store.service(call.service)
        block.counts[_WOULD_ACT[policy]] += 1
        block.counts[_WOULD_LOSE[policy]] += lost
        if saved:
            key = (block.labels[0], policy)
            whole, self._saved[key] = divmod(self._saved.get(key, 0.0) + saved, 1.0)
            block.counts[_WOULD_SAVE[policy]] += int(whole)

    def fell_back(
        self, call: Call, kind: FallbackKind, outcome: FallbackOutcome
    ) -> None:
        """Count a fallback that was tried."""
        self._endpoint(call).counts[_FALLBACKS[kind, outcome]] += 1

    def call_ended(
        self, call: Call, outcome: CallOutcome, attempts: int, seconds: float
    ) -> None:
        """Count the call, once, and how long the caller waited."""
        self._store.calm(call.service).counts[plain.UNDER_WAY] -= 1
        at_once, call.at_once = call.at_once, None
        if outcome == "success" and attempts == 1 and at_once == seconds:
            tally = self.tally(call)
            tally.begin()
            tally.succeed(seconds)
        else:
            self._count_in_full(call, outcome, attempts, seconds, at_once)
        if call.span is not None:
            self._exemplify(call, call.span, seconds)

    def _count_in_full(
        self,
        call: Call,
        outcome: CallOutcome,
        attempts: int,
        seconds: float,
        at_once: float | None,
    ) -> None:
        """Count a call that was more than one attempt that succeeded."""
        block = self._endpoint(call)
        if at_once is not None:
            block.counts[_ATTEMPTS["success"]] += 1
            _observe(block, *_ATTEMPT_BUCKETS["success"], at_once)
        block.counts[_CALLS[outcome]] += 1
        if outcome == "success" and attempts > 1:
            block.counts[_RETRY_SUCCESS] += 1
        _observe(block, _CALL_BUCKETS, _CALL_SUM, seconds)
        service = block.labels[0]
        if OTHER in block.labels:
            kind = "service" if service == OTHER else "endpoint"
            self._store.block(_OVERFLOW_SCOPE).counts[_OVERFLOWS[kind]] += 1
        if call.unbounded:
            scope = catalog.UNBOUNDED.scope
            unbounded = self._store.block(scope, service, call.library)
            unbounded.counts[_UNBOUNDED] += 1

    def agent_error(self, where: str) -> None:
        """Count a fault of the agent itself."""
        self._store.block(catalog.AGENT_ERROR.scope, where).counts[_FAULTS] += 1

    def config_reloaded(self, outcome: Literal["applied", "refused"]) -> None:
        """Count a changed configuration."""
        self._store.block(catalog.CONFIG_RELOAD.scope).counts[_RELOADS[outcome]] += 1

    def agent_info(self, version: str, mode: str, python: str) -> None:
        """State what the agent is; what was stated before no longer holds."""
        for metric, values in self._infos[:]:
            if metric is catalog.AGENT_INFO:
                self._infos.remove((metric, values))
                self._store.block(metric.scope, *values).counts[0] = 0
        self._note(catalog.AGENT_INFO, version, mode, python)

    def patch_info(self, library: str, version: str, status: str) -> None:
        """State how a library that was found stands."""
        self._note(catalog.PATCH_INFO, library, version, status)

    def renew(self) -> None:
        """Take a lock that nobody holds, in a child that was just forked."""
        self._lock = allocate_lock()

    def repeat_infos(self) -> None:
        """State again what was stated, in a store that begins afresh."""
        for metric, values in self._infos:
            self._store.block(metric.scope, *values).counts[0] = 1

    def _note(self, metric: Metric, *values: str) -> None:
        if (metric, values) not in self._infos:
            self._infos.append((metric, values))
        self._store.block(metric.scope, *values).counts[0] = 1

    def restate(self, service: str) -> None:
        """Say how a service stands now, where whoever serves the metrics reads it."""
        block = self._store.calm(service)
        # Under the lock, so that what is written last was also asked last.
        with self._lock:
            found = self._stand(service)
            if found is not None and block.labels[0] == service:
                standing.write(block.counts, block.sums, found)

    def _exemplify(self, call: Call, span: object, seconds: float) -> None:
        """Keep the call's trace as an example of a call that takes so long."""
        # Asked for by name: what a protocol has costs more to find than to use.
        ask: Any = getattr(span, "sampled", None)
        found = None if ask is None else ask()
        if found is not None:
            trace_id, span_id = found
            labels = self._store.labels(call.service, call.endpoint)
            block = self.examples(*labels)
            exemplars.note(
                block.counts,
                block.sums,
                bisect_left(catalog.BUCKETS, seconds),
                trace_id=trace_id,
                span_id=span_id,
                value=seconds,
                time=time.time(),
            )

    def examples(self, service: str, endpoint: str) -> Block:
        """Return the block of an endpoint's exemplars."""
        return self._store.block(EXEMPLARS, service, endpoint)

    def _endpoint(self, call: Call) -> Block:
        return self._store.endpoint(call.service, call.endpoint)

    def _plain(self, call: Call) -> PlainTally:
        """Return where calls like this one count if they succeed at once."""
        labels = self._store.labels(call.service, call.endpoint)
        library = call.library if call.unbounded else plain.BOUNDED
        found = self._store.block(PLAIN, *labels, library, kind=PlainTally)
        return cast("PlainTally", found)


@final
class PlainTally(Block):
    """Counts calls to one endpoint that succeed at once: what the observer would.

    It is the block of their numbers and does not have it: one object less to be found.

    Args:
        layout: What lies where.
        labels: Whose calls they are.
        cells: Where the numbers lie.

    `adds` says that nobody has to be called: see `events.Numbers`.
    """

    __slots__ = ("_examples", "ended", "observer", "spent")

    adds = True
    observer: MetricsObserver
    """Counts all others."""

    def __init__(self, layout: Layout, labels: tuple[str, ...], cells: Cells) -> None:
        super().__init__(layout, labels, cells)
        self._examples: Block | None = None

    def lay(self, cells: Cells) -> None:
        """Keep the numbers somewhere else from now on."""
        (whole, floats, ended, spent), first = cells
        # At once, as `Block` does.
        self.whole, self.floats, self.first = whole, floats, first
        self.ended, self.spent = ended, spent

    def begin(self) -> None:
        """Count a call under way."""
        self.whole[self.first] += 1

    def withdraw(self) -> None:
        """Take back that it is under way."""
        self.whole[self.first] -= 1

    def succeed(self, seconds: float) -> None:
        """Count the call, its only attempt, and how long both took."""
        bucket = 0
        # Many are as fast as the first bucket says, and a search costs as much as all.
        if seconds > _QUICK:
            bucket = bisect_left(_BUCKETS, seconds)
        # At once, as all of it may be laid elsewhere while another thread runs.
        ended, spent, first = self.ended, self.spent, self.first
        ended[first + bucket] += 1
        spent[first] += seconds

    def exemplify(self, track: Track, seconds: float) -> None:
        """Keep the call's trace as an example of a call that takes so long."""
        trace = track.sampled()
        if trace is None:
            return
        block = self._examples
        if block is None:
            service, endpoint, _ = self.labels
            block = self._examples = self.observer.examples(service, endpoint)
        first = block.first
        bucket = bisect_left(_BUCKETS, seconds)
        ids, facts = first + 3 * bucket, first + _EXEMPLARS + 2 * bucket
        exemplars.write(
            block.whole, block.floats, ids, facts, trace, seconds, time.time()
        )


def _observe(block: Block, first: int, total: int, seconds: float) -> None:
    block.counts[first + bisect_left(catalog.BUCKETS, seconds)] += 1
    block.sums[total] += seconds
