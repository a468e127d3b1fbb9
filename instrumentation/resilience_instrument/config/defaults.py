"""Every default, with the reason it has its value. No other module holds one."""

from __future__ import annotations

from typing import Final

# -- timeouts, seconds ------------------------------------------------------

# Three seconds is a little more than the first TCP retransmission (RFC 6298
# section 2.1), so one lost SYN does not fail a call.
CONNECT: Final = 3.0

# The upper end of what is usual between services: cuts only what is surely dead.
READ: Final = 10.0

# As for reading; a peer that takes nothing for that long is as dead as a mute one.
WRITE: Final = 10.0

# httpx's own default: long enough for a burst, short enough to see a leak.
POOL: Final = 5.0

# The whole call. Three times the read timeout, so that one hung attempt leaves
# room for two more (Polly's standard handler has the same 30 s).
TOTAL: Final = 30.0
MAX: Final = None

# A database: ten seconds to connect and thirty for a statement are the upper ends of
# what tuning guides advise for applications; whatever needs longer says so itself.
DATABASE_CONNECT: Final = 10.0
DATABASE_STATEMENT: Final = 30.0
# What SQLAlchemy's pool and psycopg_pool wait for a connection that is free.
DATABASE_POOL: Final = 30.0

# -- retry ------------------------------------------------------------------

# Two retries: what AWS's SDKs, resilience4j, Polly and failsafe-go have.
MAX_ATTEMPTS: Final = 3

# Full jitter over 1 s, 2 s, 4 s ... (Brooker, "Exponential Backoff And Jitter",
# AWS Architecture Blog, 2015).
BASE_DELAY: Final = 1.0
MAX_DELAY: Final = 30.0

# A service may ask for as long as one whole call lasts. urllib3 would sleep 6 h.
RETRY_AFTER_MAX: Final = 30.0

# Twenty per cent and a ten-second window are Finagle's RetryBudget. One free
# retry a second and not ten: a prefork server runs many processes, each with a
# budget of its own.
BUDGET: Final = 0.2
BUDGET_MIN: Final = 1.0
BUDGET_WINDOW: Final = 10.0

# gRPC proposal A6's example: ten tokens, a tenth back for each success.
BUDGET_TOKENS: Final = 10
BUDGET_TOKEN_RATIO: Final = 0.1

# AWS's SDKs in standard mode: a quota of 500, 5 for a retry, 10 after a timeout.
BUDGET_QUOTA: Final = 500
BUDGET_COST: Final = 5
BUDGET_TIMEOUT_COST: Final = 10

# -- bulkhead (off unless a limit is set) -------------------------------------

# Netflix's concurrency-limits learns up to 200.
LIMIT_MAX: Final = 200

# -- throttle (off unless asked for) ------------------------------------------

# Google's SRE book, "Handling Overload": twice what is accepted, over two minutes.
THROTTLE_MULTIPLIER: Final = 2.0
THROTTLE_WINDOW: Final = 120.0

# Fewer calls say nothing; one in ten still finds out whether it is over.
THROTTLE_MIN_CALLS: Final = 10
THROTTLE_CAP: Final = 0.9

# -- adaptive timeout (shown, not acting) -------------------------------------

# Half as much again as what 99 of 100 need, over five minutes: a rule of thumb that
# operators set timeouts by.
ADAPTIVE_QUANTILE: Final = 0.99
ADAPTIVE_FACTOR: Final = 1.5
ADAPTIVE_WINDOW: Final = 300.0

# Below a hundred the 99th percentile is just the slowest.
ADAPTIVE_MIN_SAMPLES: Final = 100

# Pauses of garbage collectors and lost packets take a quarter of a second.
ADAPTIVE_FLOOR: Final = 0.25
ADAPTIVE_FLOOR_SHARE: Final = 0.05
ADAPTIVE_EVERY: Final = 10.0
ADAPTIVE_MAX_DECREASE: Final = 0.2

# One in ten cut, or three in a row, is no tail: the service has become slower.
ADAPTIVE_VALVE_SHARE: Final = 0.1
ADAPTIVE_VALVE_WINDOW: Final = 10.0
ADAPTIVE_VALVE_ROW: Final = 3
ADAPTIVE_VALVE_FOR: Final = 60.0

# -- hedging (off unless asked for) -------------------------------------------

# Dean and Barroso, "The Tail at Scale": past the 95th percentile, 5 % more load.
HEDGE_QUANTILE: Final = 0.95
HEDGE_MIN_SAMPLES: Final = 100
HEDGE_FLOOR: Final = 0.01

# -- breaker ----------------------------------------------------------------

# Five in a row: pybreaker's and Envoy's default.
CONSECUTIVE: Final = 5

# Half of at least twenty in half a minute: Hystrix's numbers over Polly's window.
# Sees the outage of one server among several, which is never a row of failures.
FAILURE_RATE: Final = 0.5
WINDOW: Final = 30.0
MIN_CALLS: Final = 20

# Where slow attempts are looked at (nowhere unless asked for): resilience4j has a
# rate of 1.0, which never trips; these notice before everything is slow.
SLOW_RATE: Final = 0.8
SLOW_SHARE_OF_READ: Final = 0.8

# Where traffic comes back step by step (nowhere unless asked for): ten steps over
# fifteen seconds, joylive-agent's recovery.
RAMP_STEP: Final = 1.5

# Half a minute, doubled once if the service does not come back; a fifth of
# chance keeps many clients from probing in the same second.
OPEN_FOR: Final = 30.0
OPEN_MAX: Final = 60.0
OPEN_GROWTH: Final = 2.0
OPEN_JITTER: Final = 0.2

# One probe at a time and two successes: a single lucky answer closes nothing.
PROBES: Final = 1
SUCCESSES_TO_CLOSE: Final = 2

# A probe that says nothing for as long as an attempt may take has lost its turn.
# That time follows the read timeout; this is the least of it.
PROBE_LEASE_LEAST: Final = 5.0

# -- metrics ----------------------------------------------------------------

# Loopback unless told otherwise: nothing is opened to a network by surprise.
METRICS_HOST: Final = "127.0.0.1"
# A free range in Prometheus's list of default ports; the first free one serves.
METRICS_FIRST_PORT: Final = 9469
METRICS_LAST_PORT: Final = 9479

# -- fallback ---------------------------------------------------------------

# Five minutes: long enough for a restart, short enough to be true. At most 32 MiB
# a service: 128 answers of 256 KiB.
CACHE_MAX_AGE: Final = 300.0
CACHE_MAX_ENTRIES: Final = 128
CACHE_MAX_BYTES: Final = 262_144
STATIC_STATUS: Final = 200

# -- automatic profiles -----------------------------------------------------

# Kubernetes (.svc, .cluster.local), RFC 6762 (.local, section 3 and appendix G)
# and the name that ICANN keeps for private use (.internal, 2024).
INTERNAL_HOSTS: Final = (
    "localhost",
    "*.localhost",
    "*.internal",
    "*.local",
    "*.svc",
    "*.lan",
    "*.intranet",
    "*.corp",
    "*.home.arpa",
)
HEALTH_PATHS: Final = (
    "/health*",
    "/livez",
    "/readyz",
    "/ping",
    "/-/healthy",
    "/-/ready",
    "/actuator/health*",
)
# From here on sending takes longer than answering on a slow line.
UPLOAD_FROM: Final = 1_048_576
