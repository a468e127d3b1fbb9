"""Every key of the configuration, once.

The loader, its messages, the JSON Schema, the reference page and the names of the
environment variables are made from this. A key of a policy may stand in
`[defaults]`, in a profile and in a service; its variable is `RESILIENCE_`, the
section and the name. Values stand in `defaults.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from resilience_instrument.config import defaults
from resilience_instrument.config.kinds import (
    Choice,
    Flag,
    Headers,
    Names,
    Number,
    OrOff,
    Ports,
    Seconds,
    Statuses,
    Text,
    Texts,
    Whole,
)

if TYPE_CHECKING:
    from dataclasses import dataclass

    from resilience_instrument.config.kinds import Kind, Value
else:
    from resilience_instrument.frozen import dataclass

PREFIX: Final = "RESILIENCE_"


@final
@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        section: The table that it stands in, empty for a service's own table.
        name: Its name there.
        kind: What it may be.
        default: What holds where nobody says anything.
        help: What it means, for the reference page and for editors.
        source: Where the default comes from.
        derived: How the default follows other keys, empty where it does not.
        variable: Whether an environment variable may set it.
    """

    section: str
    name: str
    kind: Kind
    default: Value
    help: str
    source: str
    derived: str = ""
    variable: bool = True

    @property
    def path(self) -> str:
        """Its place in a table of settings, such as `timeout.read`."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def env(self) -> str:
        """The name of its environment variable; a switch has its section's name."""
        if self.section in {"", "agent"}:
            return f"{PREFIX}{self.name}".upper()
        name = "" if self.name == "enabled" else f"_{self.name}"
        return f"{PREFIX}{self.section}{name}".upper().replace(".", "_")


@final
@dataclass(frozen=True, slots=True)
class Section:
    """One table of keys.

    Attributes:
        name: Its name, empty for what stands in a service's own table.
        title: Its title on the reference page.
        help: What stands under the title.
        service: Whether it may stand in `[defaults]`, profiles and services; else
            it stands at the top of the file.
    """

    name: str
    title: str
    help: str
    service: bool = True


SECTIONS: Final = (
    Section(
        "",
        "Of a service",
        "Directly in `[defaults]`, `[profiles.NAME]` or `[services.NAME]`.",
    ),
    Section(
        "timeout",
        "Timeouts",
        "What an app gives itself wins. These hold where it gave nothing.",
    ),
    Section(
        "retry",
        "Retries",
        "Only where it does no harm: see [how it works](how-it-works.md).",
    ),
    Section("breaker", "Circuit breaker", "One circuit a service."),
    Section("bulkhead", "Bulkhead", "Off unless there is a limit."),
    Section("throttle", "Throttle", "Off unless it is enabled."),
    Section("adaptive", "Adaptive timeout", "Shown, and acting only where asked to."),
    Section("hedge", "Hedging", "Off unless it is enabled."),
    Section(
        "fallback",
        "Fallback",
        "What answers when the call failed: tried in the order cache, service, call,"
        " static. The answer carries the header `Resilience-Fallback`.",
    ),
    Section(
        "fallback.cache",
        "Fallback: cache",
        "The last good answer to the same GET, with the same headers.",
    ),
    Section(
        "fallback.static", "Fallback: static", "An answer that is always the same."
    ),
    Section("agent", "Agent", "What holds for the whole process.", service=False),
    Section("metrics", "Metrics", "Where they are served.", service=False),
    Section("tracing", "Tracing", "Spans of OpenTelemetry.", service=False),
)

_LIMIT: Final = OrOff(Seconds())
_SHARE: Final = OrOff(Number(0.001, 1))

_OWN: Final = (
    Key(
        "",
        "enabled",
        Flag(),
        True,  # noqa: FBT003 - the default, as the field's name says
        "false: calls pass as if the agent were not there; `RESILIENCE_ENABLED=0` keeps"
        " it away altogether",
        "the agent was asked for",
        variable=False,
    ),
    Key(
        "",
        "mode",
        Choice("enforce", "observe"),
        "enforce",
        "observe: everything is measured and decided, nothing is done",
        "the defaults are safe for calls that must not be sent twice",
    ),
    Key(
        "",
        "profile",
        Text('"auto", "none" or the name of a profile'),
        "auto",
        "which profile holds; auto: found by the rules in"
        " [profiles](profiles.md), none: no profile",
        "the use cases of the profiles differ by a factor of a hundred",
    ),
    Key(
        "",
        "match",
        Texts(
            'a pattern such as "https://pay.example.com/v2/*", or a list of them',
            single=True,
        ),
        (),
        "which calls belong to the service; only in `[services.NAME]`",
        "a service without a name of its own is its host",
        variable=False,
    ),
    Key(
        "",
        "endpoints",
        Texts('a list of templates such as "/users/{id}"'),
        (),
        "templates for the `endpoint` label, tried before the automatic ones",
        "identifiers are recognised by themselves",
        variable=False,
    ),
    Key(
        "",
        "idempotency_key",
        OrOff(Text("the name of a header")),
        None,
        "header with a fresh key, the same for every attempt of one call, that is"
        " added to POST and PATCH calls which have none; it makes them repeatable",
        "only the service can say that it honours such a key",
        variable=False,
    ),
)

_TIMEOUT: Final = (
    Key(
        "timeout",
        "connect",
        _LIMIT,
        defaults.CONNECT,
        "seconds to reach the service, TLS included",
        "a little more than the first TCP retransmission (RFC 6298, section 2.1)",
    ),
    Key(
        "timeout",
        "read",
        _LIMIT,
        defaults.READ,
        "seconds between two pieces of the answer; of a database, a statement",
        "the upper end of what is usual between services",
    ),
    Key(
        "timeout",
        "write",
        _LIMIT,
        defaults.WRITE,
        "seconds between two pieces of the request (httpx)",
        "as for reading",
    ),
    Key(
        "timeout",
        "pool",
        _LIMIT,
        defaults.POOL,
        "seconds for a free connection of the client's pool (httpx)",
        "httpx's own default",
    ),
    Key(
        "timeout",
        "total",
        _LIMIT,
        defaults.TOTAL,
        "seconds for the whole call: attempts, pauses and bodies",
        "Polly's standard handler",
        derived="never below `timeout.read`",
    ),
    Key(
        "timeout",
        "max",
        _LIMIT,
        defaults.MAX,
        "seconds after which a call by HTTP ends, also where the app allows it more",
        "an app's own timeout wins, unless somebody says otherwise",
    ),
)

_RETRY: Final = (
    Key(
        "retry",
        "max_attempts",
        Whole(1, 10),
        defaults.MAX_ATTEMPTS,
        "attempts of one call, the first included; 1 for no retries",
        "AWS's SDKs, resilience4j, Polly and failsafe-go",
    ),
    Key(
        "retry",
        "base_delay",
        Seconds(zero=True),
        defaults.BASE_DELAY,
        "seconds, the upper end of the first pause; it doubles with each",
        'Brooker, "Exponential Backoff And Jitter", 2015',
    ),
    Key(
        "retry",
        "max_delay",
        Seconds(zero=True),
        defaults.MAX_DELAY,
        "seconds, the upper end of any pause",
        "as long as a whole call may last",
        derived="never below `retry.base_delay`",
    ),
    Key(
        "retry",
        "retry_after_max",
        Seconds(zero=True),
        defaults.RETRY_AFTER_MAX,
        "seconds that a service may ask to wait; for more the call ends",
        "as long as a whole call may last",
    ),
    Key(
        "retry",
        "budget",
        Number(0, 1),
        defaults.BUDGET,
        "retries per call that may be added on average",
        "Finagle's and linkerd's retry budget",
    ),
    Key(
        "retry",
        "budget_min",
        Number(0, 1000),
        defaults.BUDGET_MIN,
        "retries a second that are always allowed",
        "a tenth of Finagle's: a prefork server has one budget a process",
    ),
    Key(
        "retry",
        "budget_window",
        Seconds(),
        defaults.BUDGET_WINDOW,
        "seconds over which the budget is kept",
        "Finagle's retry budget",
    ),
    Key(
        "retry",
        "jitter",
        Choice("full", "equal", "decorrelated", "proportional", "fixed", "immediate"),
        "full",
        "what chance makes of a pause: anything up to the bound; the upper half;"
        " up to three times the pause before; a tenth on top; none; no pause at all",
        'Brooker, "Exponential Backoff And Jitter", 2015',
    ),
    Key(
        "retry",
        "max_elapsed",
        _LIMIT,
        None,
        "seconds after which no attempt starts any more",
        "`timeout.total` ends every call",
    ),
    Key(
        "retry",
        "on_statuses",
        OrOff(Statuses()),
        None,
        "statuses that are tried again, and no others; off: the usual ones",
        "408, 425, 429, 502, 503 and 504 may be gone at the next try",
    ),
    Key(
        "retry",
        "on_errors",
        Names('a list of error classes such as "BrokenPipeError"'),
        frozenset(),
        "names of error classes that are tried again as well",
        "timeouts and broken connections are",
    ),
    Key(
        "retry",
        "except_errors",
        Names('a list of error classes such as "ReadTimeout"'),
        frozenset(),
        "names of error classes that are never tried again",
        "only the service's owner can say",
    ),
    Key(
        "retry",
        "budget_mode",
        Choice("finagle", "grpc", "aws"),
        "finagle",
        "how the budget is kept: `budget`, `budget_min` and `budget_window`; tokens"
        " that successes give back; a quota that retries use up",
        "Finagle and linkerd",
    ),
    Key(
        "retry",
        "budget_tokens",
        Whole(1, 1000),
        defaults.BUDGET_TOKENS,
        "for grpc: tokens at most; below half nobody retries",
        "gRPC proposal A6",
    ),
    Key(
        "retry",
        "budget_token_ratio",
        Number(0.001, 1000),
        defaults.BUDGET_TOKEN_RATIO,
        "for grpc: part of a token that a success gives back",
        "gRPC proposal A6",
    ),
    Key(
        "retry",
        "budget_quota",
        Whole(1, 1_000_000),
        defaults.BUDGET_QUOTA,
        "for aws: what retries may use up",
        "AWS's SDKs in standard mode",
    ),
    Key(
        "retry",
        "budget_cost",
        Whole(0, 1_000_000),
        defaults.BUDGET_COST,
        "for aws: what a retry uses up",
        "AWS's SDKs in standard mode",
    ),
    Key(
        "retry",
        "budget_timeout_cost",
        Whole(0, 1_000_000),
        defaults.BUDGET_TIMEOUT_COST,
        "for aws: what a retry after a timeout uses up",
        "AWS's SDKs in standard mode",
    ),
)

_BREAKER: Final = (
    Key(
        "breaker",
        "consecutive",
        OrOff(Whole(1, 1000)),
        defaults.CONSECUTIVE,
        "failed attempts in a row that open it",
        "pybreaker and Envoy",
    ),
    Key(
        "breaker",
        "open_for",
        Seconds(),
        defaults.OPEN_FOR,
        "seconds for which it refuses the first time; more while it does not close",
        "the lower end of the usual 30 to 60",
    ),
    Key(
        "breaker",
        "open_max",
        Seconds(),
        defaults.OPEN_MAX,
        "seconds for which it refuses at most",
        "the upper end of the usual 30 to 60",
        derived="never below `breaker.open_for`",
    ),
    Key(
        "breaker",
        "open_growth",
        Number(1, 10),
        defaults.OPEN_GROWTH,
        "factor from one opening to the next while it does not close",
        "from 30 to 60 seconds in one step",
    ),
    Key(
        "breaker",
        "open_jitter",
        Number(0, 1),
        defaults.OPEN_JITTER,
        "share of the open time that chance may add",
        "many clients must not probe in the same second",
    ),
    Key(
        "breaker",
        "probes",
        Whole(1, 1000),
        defaults.PROBES,
        "attempts let through at once while it is half open",
        "a service that comes back is weak",
    ),
    Key(
        "breaker",
        "successes_to_close",
        Whole(1, 1000),
        defaults.SUCCESSES_TO_CLOSE,
        "probes in a row that must succeed",
        "a single lucky answer closes nothing",
    ),
    Key(
        "breaker",
        "probe_lease",
        Seconds(),
        defaults.PROBE_LEASE_LEAST,
        "seconds after which a probe without an answer loses its place",
        "a probe may take as long as an attempt",
        derived="never below `timeout.read`",
    ),
    Key(
        "breaker",
        "failure_rate",
        _SHARE,
        defaults.FAILURE_RATE,
        "share of failures in a window that opens it as well; reached is enough",
        "Hystrix: sees the outage of one server among several",
    ),
    Key(
        "breaker",
        "window",
        OrOff(Seconds()),
        defaults.WINDOW,
        "seconds over which shares are looked at",
        "Polly",
        derived="never below twice `timeout.read`",
    ),
    Key(
        "breaker",
        "min_calls",
        Whole(1, 1_000_000),
        defaults.MIN_CALLS,
        "attempts in a window below which no share means anything",
        "Hystrix",
    ),
    Key(
        "breaker",
        "count_window",
        OrOff(Whole(1, 1000)),
        None,
        "attempts over which shares are looked at as well",
        "a window in time serves most",
    ),
    Key(
        "breaker",
        "count_failures",
        OrOff(Whole(1, 1000)),
        None,
        "failures among the last `count_window` attempts that open it",
        "failures in a row serve most",
    ),
    Key(
        "breaker",
        "slow_rate",
        _SHARE,
        None,
        "share of slow attempts in a window that opens it as well",
        f"slow is not dead; who asks for it does well with {defaults.SLOW_RATE:g}",
    ),
    Key(
        "breaker",
        "slow_after",
        OrOff(Seconds()),
        None,
        "seconds from which on an attempt is slow",
        "only where `breaker.slow_rate` is on",
        derived=f"then {defaults.SLOW_SHARE_OF_READ:g} of `timeout.read`",
    ),
    Key(
        "breaker",
        "slow_inflight",
        Flag(),
        False,  # noqa: FBT003 - as above
        "count attempts as slow before they have ended",
        "each attempt is counted once it is over",
    ),
    Key(
        "breaker",
        "ramp_steps",
        Whole(0, 1000),
        0,
        "steps in which a closed circuit gets its traffic back; 0: all at once",
        "two probes have succeeded by then",
    ),
    Key(
        "breaker",
        "ramp_step",
        Seconds(),
        defaults.RAMP_STEP,
        "seconds that each of these steps lasts",
        "with ten steps, joylive-agent's recovery",
    ),
    Key(
        "breaker",
        "mode",
        Choice("enforce", "shadow", "forced_open", "disabled"),
        "enforce",
        "enforce; shadow: look on; forced_open: refuse all; disabled: let all through",
        "it was asked for",
    ),
)

_GUARDS: Final = (
    Key(
        "bulkhead",
        "limit",
        OrOff(Whole(1, 100_000)),
        None,
        "attempts under way at once, or where learning the limit starts",
        "only the service's owner can say",
    ),
    Key(
        "bulkhead",
        "queue",
        Whole(0, 100_000),
        0,
        "calls that may wait for a place",
        "waiting hides that it is full",
    ),
    Key(
        "bulkhead",
        "wait",
        Seconds(zero=True),
        0.0,
        "seconds for which one waits",
        "waiting hides that it is full",
    ),
    Key(
        "bulkhead",
        "adaptive",
        Choice("off", "aimd", "gradient2"),
        "off",
        "whether and how the limit is learnt",
        "learning needs a lot of traffic",
    ),
    Key(
        "bulkhead",
        "limit_max",
        Whole(1, 100_000),
        defaults.LIMIT_MAX,
        "where learning the limit ends",
        "Netflix's concurrency-limits",
        derived="never below `bulkhead.limit`",
    ),
    Key(
        "throttle",
        "enabled",
        Flag(),
        False,  # noqa: FBT003 - as above
        "hold calls back from a service that refuses most of them",
        "the circuit serves most",
    ),
    Key(
        "throttle",
        "multiplier",
        Number(1, 100),
        defaults.THROTTLE_MULTIPLIER,
        "calls that are sent for each that is accepted",
        'Google\'s SRE book, "Handling Overload"',
    ),
    Key(
        "throttle",
        "window",
        Seconds(),
        defaults.THROTTLE_WINDOW,
        "seconds that are looked back",
        'Google\'s SRE book, "Handling Overload"',
    ),
    Key(
        "throttle",
        "min_calls",
        Whole(1, 1_000_000),
        defaults.THROTTLE_MIN_CALLS,
        "calls below which nothing is held back",
        "fewer say nothing",
    ),
    Key(
        "throttle",
        "cap",
        Number(0, 1),
        defaults.THROTTLE_CAP,
        "the highest share that is held back",
        "one in ten still finds out whether it is over",
    ),
    Key(
        "adaptive",
        "mode",
        Choice("observe", "enforce", "off"),
        "observe",
        "observe: work the timeout out and only show it; enforce: let it act",
        "a timeout that moves by itself has to be asked for",
    ),
    Key(
        "adaptive",
        "quantile",
        Number(0.5, 0.9999),
        defaults.ADAPTIVE_QUANTILE,
        "the share of attempts that must fit in",
        "the rule of thumb that operators set timeouts by",
    ),
    Key(
        "adaptive",
        "factor",
        Number(1, 100),
        defaults.ADAPTIVE_FACTOR,
        "what their longest duration is multiplied by",
        "the rule of thumb that operators set timeouts by",
    ),
    Key(
        "adaptive",
        "window",
        Seconds(),
        defaults.ADAPTIVE_WINDOW,
        "seconds that are looked back",
        "long enough for a hundred attempts of most services",
    ),
    Key(
        "adaptive",
        "min_samples",
        Whole(1, 100_000),
        defaults.ADAPTIVE_MIN_SAMPLES,
        "attempts below which the configured timeout holds",
        "below a hundred the 99th percentile is just the slowest",
    ),
    Key(
        "adaptive",
        "floor",
        Seconds(),
        defaults.ADAPTIVE_FLOOR,
        "seconds, the least it becomes",
        "pauses of garbage collectors and lost packets take as long",
    ),
    Key(
        "adaptive",
        "floor_share",
        Number(0, 1),
        defaults.ADAPTIVE_FLOOR_SHARE,
        "the least it becomes, as a share of the configured timeout",
        "a twentieth is a lot less than anybody expected",
    ),
    Key(
        "adaptive",
        "every",
        Seconds(),
        defaults.ADAPTIVE_EVERY,
        "seconds between two changes",
        "people can follow that",
    ),
    Key(
        "adaptive",
        "max_decrease",
        Number(0, 1),
        defaults.ADAPTIVE_MAX_DECREASE,
        "share by which it falls at most at once",
        "a quiet minute must not cut the next one",
    ),
    Key(
        "adaptive",
        "valve_share",
        Number(0, 1),
        defaults.ADAPTIVE_VALVE_SHARE,
        "share of timeouts above which it stands aside",
        "one in ten is no tail: the service has become slower",
    ),
    Key(
        "adaptive",
        "valve_window",
        Seconds(),
        defaults.ADAPTIVE_VALVE_WINDOW,
        "seconds over which this share is looked at",
        "people notice no sooner",
    ),
    Key(
        "adaptive",
        "valve_row",
        Whole(1, 1000),
        defaults.ADAPTIVE_VALVE_ROW,
        "timeouts in a row at which it stands aside",
        "three in a row are no tail",
    ),
    Key(
        "adaptive",
        "valve_for",
        Seconds(),
        defaults.ADAPTIVE_VALVE_FOR,
        "seconds for which it stands aside",
        "long enough to see what attempts take now",
    ),
    Key(
        "hedge",
        "enabled",
        Flag(),
        False,  # noqa: FBT003 - as above
        "send a second attempt beside a slow one, in async clients and where it does"
        " no harm",
        "more load has to be asked for",
    ),
    Key(
        "hedge",
        "quantile",
        Number(0.5, 0.9999),
        defaults.HEDGE_QUANTILE,
        "the share of attempts that are not slow",
        'Dean and Barroso, "The Tail at Scale"',
    ),
    Key(
        "hedge",
        "min_samples",
        Whole(1, 100_000),
        defaults.HEDGE_MIN_SAMPLES,
        "attempts below which nobody knows what slow is",
        "as for the adaptive timeout",
    ),
    Key(
        "hedge",
        "floor",
        Seconds(zero=True),
        defaults.HEDGE_FLOOR,
        "seconds, the least that the first attempt has for itself",
        "less is noise",
    ),
)

_FALLBACK: Final = (
    Key(
        "fallback",
        "service",
        OrOff(Text('a URL such as "https://backup.example.com"')),
        None,
        "another host that gets the request, with policies of its own; only where"
        " sending it does no harm",
        "nobody but you knows one",
        variable=False,
    ),
    Key(
        "fallback",
        "call",
        OrOff(Text('a function such as "shop.fallbacks:prices"')),
        None,
        "a function that gives the answer, as `module:function`",
        "nobody but you knows one",
        variable=False,
    ),
    Key(
        "fallback.cache",
        "max_age",
        Seconds(),
        defaults.CACHE_MAX_AGE,
        "seconds for which an answer may stand in",
        "five minutes: long enough for a restart, short enough to be true",
        variable=False,
    ),
    Key(
        "fallback.cache",
        "max_entries",
        Whole(1, 100_000),
        defaults.CACHE_MAX_ENTRIES,
        "answers that are kept; the oldest make room",
        "with the largest size, 32 MiB a service at most",
        variable=False,
    ),
    Key(
        "fallback.cache",
        "max_bytes",
        Whole(1, 16 * 1024 * 1024),
        defaults.CACHE_MAX_BYTES,
        "length of the largest answer that is kept",
        "with as many answers as are kept, 32 MiB a service at most",
        variable=False,
    ),
    Key(
        "fallback.static",
        "status",
        Whole(200, 599),
        defaults.STATIC_STATUS,
        "status of the answer",
        "the app shall go on",
        variable=False,
    ),
    Key(
        "fallback.static",
        "headers",
        Headers(),
        (),
        "headers of the answer",
        "none are needed",
        variable=False,
    ),
    Key(
        "fallback.static",
        "body",
        Text("a text", least=0),
        "",
        "body of the answer",
        "none is needed",
        variable=False,
    ),
    Key(
        "fallback.static",
        "file",
        OrOff(Text("the path of a file")),
        None,
        "file that holds the body, relative to the configuration; read when that is"
        " loaded",
        "the body stands in the configuration",
        variable=False,
    ),
)

_AGENT: Final = (
    Key(
        "agent",
        "disable",
        Texts('a list such as "httpx" or "requests:retry"'),
        (),
        "libraries to leave alone, or policies to leave out of one, as"
        " `library:policy` (timeout, retry, breaker, fallback)",
        "every library that is found is governed",
    ),
    Key(
        "agent",
        "banner",
        Flag(),
        False,  # noqa: FBT003 - as above
        "say on stderr at the first call where the metrics are",
        "a healthy run says nothing",
    ),
    Key(
        "agent",
        "reload",
        Flag(),
        True,  # noqa: FBT003 - as above
        "read the configuration again when the file has changed",
        "looked at once a second at most, during a call",
    ),
    Key(
        "agent",
        "internal_hosts",
        Texts('a list of hosts such as "*.internal"'),
        defaults.INTERNAL_HOSTS,
        "names of hosts that are internal; private addresses are anyway",
        "cluster names of Kubernetes, and what RFC 6762 and ICANN keep private",
    ),
    Key(
        "agent",
        "health_paths",
        Texts('a list of paths such as "/health*"'),
        defaults.HEALTH_PATHS,
        "paths that are health checks",
        "what Kubernetes, Spring Boot and load balancers ask for",
    ),
    Key(
        "agent",
        "upload_from",
        OrOff(Whole(0, 1 << 40)),
        defaults.UPLOAD_FROM,
        "bytes from which on a body is an upload; multipart bodies are anyway; off:"
        " no call is an upload by itself",
        "at 1 MiB, sending takes longer than answering on a slow line",
    ),
    Key(
        "agent",
        "time_limit",
        OrOff(Seconds()),
        None,
        "seconds after which the platform ends a piece of work (a Lambda function's or"
        " a gunicorn worker's timeout); no service's total may be longer",
        "not every platform has one",
    ),
)

_METRICS: Final = (
    Key(
        "metrics",
        "host",
        Text("an address or a name of this machine"),
        defaults.METRICS_HOST,
        "address to serve on; `0.0.0.0` lets a scraper on another machine in",
        "nothing is opened to a network by surprise",
    ),
    Key(
        "metrics",
        "port",
        Ports(),
        range(defaults.METRICS_FIRST_PORT, defaults.METRICS_LAST_PORT + 1),
        "a port or a range, of which the first free one is taken; `0` for none",
        "free in Prometheus's list of default ports",
    ),
)

_TRACING: Final = (
    Key(
        "tracing",
        "enabled",
        Flag(),
        True,  # noqa: FBT003 - as above
        "record spans where the app has a tracer provider",
        "without a provider nothing is recorded",
    ),
)

KEYS: Final = (
    *_OWN,
    *_TIMEOUT,
    *_RETRY,
    *_BREAKER,
    *_GUARDS,
    *_FALLBACK,
    *_AGENT,
    *_METRICS,
    *_TRACING,
)
"""All of them, in the order of the reference page."""

BY_PATH: Final = {key.path: key for key in KEYS}
SERVICE_SECTIONS: Final = frozenset(s.name for s in SECTIONS if s.service)
SERVICE_KEYS: Final = tuple(key for key in KEYS if key.section in SERVICE_SECTIONS)
PROCESS_KEYS: Final = tuple(k for k in KEYS if k.section not in SERVICE_SECTIONS)
