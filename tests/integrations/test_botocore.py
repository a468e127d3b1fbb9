"""botocore: its own loop is kept, and circuit, timeouts and metrics follow it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import io
import pickle
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import botocore.awsrequest
import botocore.exceptions
import botocore.httpsession
import botocore.parsers
import botocore.retries.standard
import botocore.session
import botocore.stub
import pytest
import urllib3
import vcr  # type: ignore[import-untyped]
from botocore.config import Config

from integrations.governing import governing
from loopback import (
    Close,
    Delay,
    Drip,
    DripBody,
    DripChunked,
    EventStream,
    Gate,
    Hang,
    Reset,
    Server,
    SlowReader,
    StallBody,
    Status,
    TruncatedChunked,
    closed_port,
    tarpit,
)
from resilience_instrument import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
)
from resilience_instrument.config.model import BulkheadSettings
from resilience_instrument.integrations import botocore as room
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integrations.governing import Governed

    Govern = Callable[..., Governed]

JSON = {"Content-Type": "application/x-amz-json-1.0"}
OK = Status(200, JSON, b"{}")
LOADER = botocore.session.Session().get_component("data_loader")
ONCE = Config(retries={"total_max_attempts": 1})
TRANSIENT = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
)


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern botocore and what lies below it."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing(("botocore", "urllib3"), **settings)
        )


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine take part."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def client(url: str, service: str = "dynamodb", **options: Any) -> Any:
    """Return a client with keys that open nothing."""
    session = botocore.session.Session()
    # Reading the descriptions of a service takes long: once for all tests.
    session.register_component("data_loader", LOADER)
    session.set_credentials("key", "secret")
    return session.create_client(
        service, region_name="us-east-1", endpoint_url=url, **options
    )


def s3(server: Server, **options: Any) -> Any:
    """Return a client whose buckets are paths, and whose bodies are what they are."""
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        **options,
    )
    made = client(server.url(""), "s3", config=config)

    # The tests' server does not speak of continuing.
    def hush(params: Any, **_: Any) -> None:
        params["headers"].pop("Expect", None)

    made.meta.events.register_last("before-call.s3", hush)
    return made


def dead() -> str:
    """Return the URL of a port where nobody listens."""
    return f"http://127.0.0.1:{closed_port()}"


def outcomes(governed: Governed) -> list[str]:
    """Return how the attempts ended."""
    return [judged.outcome for _, judged, _ in governed.told.of("attempt_ended")]


def test_a_503_that_botocore_tries_again_is_one_call(
    govern: Govern, server: Server
) -> None:
    """Two attempts of one call: nothing is counted twice, nothing tried twice."""
    governed = govern()
    server.script("/", Status(503), OK)
    made = client(server.url(""))

    answer = made.list_tables()

    assert 1 == answer["ResponseMetadata"]["RetryAttempts"]
    assert 2 == len(server.hits("/"))
    assert ["success"] == governed.told.outcomes
    assert [2] == governed.told.retries
    assert [(2, "503")] == [
        (number, reason) for number, _, reason in governed.told.of("retry_scheduled")
    ]


def test_a_call_is_named_by_its_endpoint_and_its_operation(
    govern: Govern, server: Server
) -> None:
    """A path says nothing where every call has the same."""
    governed = govern()
    server.script("/", OK)

    client(server.url("")).list_tables()

    (call,) = governed.told.calls
    assert ("botocore", f"127.0.0.1:{server.port}", "DynamoDB.ListTables") == (
        call.library,
        call.service,
        call.endpoint,
    )
    shown = call.attributes()
    assert ("aws-api", "ListTables") == (shown["rpc.system"], shown["rpc.method"])
    assert server.url("/") == shown["url.full"]


def test_the_last_503_surfaces_as_botocore_words_it(
    govern: Govern, server: Server
) -> None:
    """Its own error, after its own number of attempts."""
    governed = govern()
    server.script("/", Status(503))

    with pytest.raises(botocore.exceptions.ClientError) as raised:
        client(server.url(""), "sqs").list_queues()

    assert raised.value.response["ResponseMetadata"]["MaxAttemptsReached"]
    assert 3 == len(server.hits("/"))
    assert ["error"] == governed.told.outcomes
    assert ["app_retries"] == governed.told.skipped


def test_a_client_error_is_an_answer(govern: Govern, server: Server) -> None:
    """The service is alive; one attempt."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/", Status(404, JSON, b"{}"))

    with pytest.raises(botocore.exceptions.ClientError):
        client(server.url("")).list_tables()

    assert 1 == len(server.hits("/"))
    assert ["success"] == governed.told.outcomes
    assert "closed" == governed.state()


def test_a_refused_post_is_tried_again(govern: Govern) -> None:
    """By botocore, as often as it does, and the error is its own."""
    governed = govern()

    with pytest.raises(botocore.exceptions.EndpointConnectionError) as raised:
        client(dead(), "sqs").list_queues()

    assert not isinstance(raised.value, CircuitBreakerOpenError)
    assert [2, 3] == governed.told.retries
    assert [False] * 3 == [
        judged.sent for _, judged, _ in governed.told.of("attempt_ended")
    ]


@pytest.mark.parametrize(
    "failure",
    [Close(), Reset(), TruncatedChunked()],
    ids=lambda failure: type(failure).__name__,
)
def test_a_broken_connection_is_tried_again(
    govern: Govern, server: Server, failure: Any
) -> None:
    """And each break speaks against the service."""
    governed = govern(BREAKER_CONSECUTIVE="5")
    server.script("/", failure, OK)

    client(server.url("")).list_tables()

    assert 2 == len(server.hits("/"))
    assert ["error", "success"] == outcomes(governed)


@pytest.mark.parametrize(
    "failure", [Hang(), StallBody()], ids=lambda failure: type(failure).__name__
)
def test_a_read_timeout_is_tried_again(
    govern: Govern, server: Server, failure: Any
) -> None:
    """After the read timeout of the settings, not after botocore's minute."""
    governed = govern(TIMEOUT_READ="0.3")
    server.script("/", failure, OK)

    client(server.url("")).list_tables()

    (_, first, _), _ = governed.told.of("attempt_ended")
    assert "read" == first.timeout.value


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "drip",
    [Drip(interval=0.1), DripBody(interval=0.1), DripChunked(interval=0.1)],
    ids=lambda drip: type(drip).__name__,
)
def test_a_dripping_answer_is_cut_at_the_total(
    govern: Govern, drip: Any, *, tls: bool
) -> None:
    """And botocore makes no further attempt: no time is left."""
    governed = govern(TIMEOUT_CONNECT="0.5", TIMEOUT_READ="0.5", TIMEOUT_TOTAL="1")
    with Server(tls=tls) as server:
        server.script("/", drip)
        made = client(server.url(""), verify=str(server.ca_file) if tls else None)
        started = time.monotonic()

        with pytest.raises(botocore.exceptions.ReadTimeoutError):
            made.list_tables()

        took = time.monotonic() - started
    assert 0.9 < took < 10.0
    ((_, judged, _),) = governed.told.of("attempt_ended")
    assert "total" == judged.timeout.value
    assert ["deadline"] == governed.told.skipped
    assert ["timeout"] == governed.told.outcomes


def test_retries_end_with_the_total(govern: Govern, server: Server) -> None:
    """However many attempts botocore would make."""
    governed = govern(TIMEOUT_CONNECT="0.1", TIMEOUT_READ="0.4", TIMEOUT_TOTAL="1")
    server.script("/", Hang())
    many = Config(retries={"total_max_attempts": 9})
    started = time.monotonic()

    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        client(server.url(""), config=many).list_tables()

    assert 0.8 < time.monotonic() - started < 5.0
    assert len(governed.told.of("attempt_started")) in {2, 3}


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_a_pause_that_passes_the_total_is_not_made(
    govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    """The last answer surfaces at once."""
    governed = govern(TIMEOUT_CONNECT="0.5", TIMEOUT_READ="0.5", TIMEOUT_TOTAL="1")
    monkeypatch.setattr("random.random", lambda: 1.0)
    # Standard mode pauses for longer if it is asked to.
    server.script("/", Status(503, {"x-amz-retry-after": "3000"}))
    made = client(server.url(""), "sqs", config=Config(retries={"mode": mode}))
    started = time.monotonic()

    with pytest.raises(botocore.exceptions.ClientError):
        made.list_queues()

    assert time.monotonic() - started < 1.0
    assert ["deadline"] == governed.told.skipped


def test_a_day_of_retry_after_is_not_slept(govern: Govern, server: Server) -> None:
    """Botocore pauses by its own rules."""
    govern()
    server.script("/", Status(503, {"Retry-After": "86400"}), OK)
    started = time.monotonic()

    client(server.url("")).list_tables()

    assert time.monotonic() - started < 10.0


def test_a_dead_host_opens_its_circuit(govern: Govern) -> None:
    """Then a call fails at once, by an error that an app of botocore handles."""
    governed = govern(BREAKER_CONSECUTIVE="3")
    made = client(dead(), "sqs")
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        made.list_queues()

    with pytest.raises(botocore.exceptions.EndpointConnectionError) as raised:
        made.list_queues()

    assert isinstance(raised.value, CircuitBreakerOpenError)
    assert 3 == len(governed.told.of("attempt_started"))
    assert ["error", "rejected"] == governed.told.outcomes
    assert raised.value.service in str(raised.value)
    assert raised.value.service == raised.value.kwargs["endpoint_url"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "kind",
    [
        room.CircuitBreakerOpenError,
        room.BulkheadFullError,
        room.RateLimitedError,
        room.DeadlineExceededError,
    ],
)
def test_errors_pickle(kind: Any) -> None:
    """A worker may send one to its parent; what botocore's have is there too."""
    error = kind("no", service="sqs", retry_after=2.0, last_error="ReadTimeoutError")

    copied = pickle.loads(pickle.dumps(error))

    assert (type(error), "no") == (type(copied), str(copied))
    assert vars(error) == vars(copied)
    assert isinstance(error, TRANSIENT)


def test_the_circuit_ends_botocores_loop(govern: Govern, server: Server) -> None:
    """And hides nothing: what surfaces is the last real answer."""
    governed = govern(BREAKER_CONSECUTIVE="2")
    server.script("/", Status(503))

    with pytest.raises(botocore.exceptions.ClientError):
        client(server.url("")).list_tables()

    assert 2 == len(server.hits("/"))
    assert ["open"] == governed.told.skipped


def test_a_circuit_that_opens_during_botocores_pause_ends_its_loop(
    govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have found out meanwhile that the service is down."""
    governed = govern(BREAKER_CONSECUTIVE="2")
    server.script("/", Status(503))
    made, other = client(server.url("")), client(server.url(""), config=ONCE)

    def fail_elsewhere(_: float) -> None:
        monkeypatch.undo()
        with pytest.raises(botocore.exceptions.ClientError):
            other.list_tables()

    monkeypatch.setattr(time, "sleep", fail_elsewhere)
    with pytest.raises(botocore.exceptions.ClientError):
        made.list_tables()

    assert 2 == len(server.hits("/"))
    assert "open" in governed.told.skipped


def test_one_of_many_probes_and_two_successes_close(
    govern: Govern, server: Server
) -> None:
    """When the open time is up one call finds out for all."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.5", BREAKER_OPEN_JITTER="0"
    )
    gate = Gate(OK)
    server.script("/", Status(500), gate)
    made = client(server.url(""), config=ONCE)
    with pytest.raises(botocore.exceptions.ClientError):
        made.list_tables()
    time.sleep(0.6)

    with ThreadPoolExecutor(8) as pool:
        calls = as_completed([pool.submit(made.list_tables) for _ in range(8)])
        refused = [next(calls).exception() for _ in range(7)]
        gate.opened.set()
        assert next(calls).exception() is None

    assert {True} == {isinstance(e, CircuitBreakerOpenError) for e in refused}
    assert "half_open" == governed.state()
    made.list_tables()
    assert "closed" == governed.state()


def test_a_call_that_ctrl_c_ends_counts_as_nothing(
    govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe gives its place back; nothing is held against the service."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.1", BREAKER_OPEN_JITTER="0"
    )
    server.script("/", Status(500), OK)
    made = client(server.url(""), config=ONCE)
    with pytest.raises(botocore.exceptions.ClientError):
        made.list_tables()
    time.sleep(0.2)

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(urllib3.connection.HTTPConnection, "getresponse", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.list_tables()

    assert ["error", "cancelled"] == governed.told.outcomes
    assert "half_open" == governed.state()
    made.list_tables()
    assert 1 == len(governed.told.of("attempt_cancelled"))


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, server: Server
) -> None:
    """Each way to a service has a circuit of its own."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/", OK)
    proxied = ONCE.merge(Config(proxies={"http": dead()}))

    with pytest.raises(botocore.exceptions.ProxyConnectionError):
        client(server.url(""), config=proxied).list_tables()

    client(server.url("")).list_tables()
    assert 1 == len({call.service for call in governed.told.calls})
    ((_, judged, _), _) = governed.told.of("attempt_ended")
    assert not judged.sent


def test_a_file_is_wound_back(govern: Govern, server: Server) -> None:
    """By botocore, to its beginning."""
    govern()
    server.script("/b/k", Status(503), Status(200))

    s3(server).put_object(Bucket="b", Key="k", Body=io.BytesIO(b"whole"))

    assert [b"whole", b"whole"] == [hit.body for hit in server.hits("/b/k")]


def test_a_host_that_does_not_accept_is_a_connect_timeout(govern: Govern) -> None:
    """Of the settings' length, for each attempt."""
    governed = govern(TIMEOUT_CONNECT="0.2")

    with tarpit() as port, pytest.raises(botocore.exceptions.ConnectTimeoutError):
        client(f"http://127.0.0.1:{port}", "sqs").list_queues()

    phases = [judged.timeout for _, judged, _ in governed.told.of("attempt_ended")]
    assert ["connect"] * 3 == [phase.value for phase in phases]


def test_the_timeouts_of_the_settings_are_those_of_a_client(govern: Govern) -> None:
    """Where the app gave none; what it gave stays."""
    govern(TIMEOUT_CONNECT="2", TIMEOUT_READ="7")

    def timeouts(**options: Any) -> tuple[float, float]:
        config = client("http://localhost", **options).meta.config
        return config.connect_timeout, config.read_timeout

    assert (2, 7) == timeouts()
    assert (2, 7) == timeouts(config=Config(region_name="us-east-1"))
    assert (1, 7) == timeouts(config=Config(connect_timeout=1))
    assert (1, 90) == timeouts(config=Config(connect_timeout=1, read_timeout=90))


def test_timeouts_of_a_session_and_of_aws_settings_are_the_apps_own(
    govern: Govern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mode of defaults has a connect timeout of its own."""
    govern(TIMEOUT_CONNECT="2", TIMEOUT_READ="7")
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "standard")

    def timeouts(given: Config | None) -> tuple[float, float]:
        session = botocore.session.Session()
        session.set_default_client_config(given)
        config = session.create_client("sts", region_name="us-east-1").meta.config
        return config.connect_timeout, config.read_timeout

    assert (3.1, 7) == timeouts(None)
    # As without the agent: a configuration of the app ends that of the mode.
    assert (60, 33) == timeouts(Config(read_timeout=33))


@pytest.mark.parametrize("settings", [{"MODE": "observe"}, {"TIMEOUT_READ": "off"}])
def test_timeouts_that_are_not_to_act_stay_botocores(
    govern: Govern, settings: dict[str, str]
) -> None:
    """Who only observes changes no client, and no limit is no longer one."""
    govern(**settings)

    assert 60 == client("http://localhost").meta.config.read_timeout


def test_the_apps_own_timeout_wins(govern: Govern, server: Server) -> None:
    """It is neither lengthened nor evidence against the service."""
    governed = govern(TIMEOUT_READ="5", BREAKER_CONSECUTIVE="1")
    server.script("/", Delay(2.0, OK))
    short = ONCE.merge(Config(connect_timeout=0.2, read_timeout=0.2))

    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        client(server.url(""), config=short).list_tables()

    assert "closed" == governed.state()
    assert not governed.told.calls[0].unbounded


def test_no_limit_at_all_can_be_asked_for(govern: Govern, server: Server) -> None:
    """Nothing is a choice, unlike what is not given."""
    governed = govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    server.script("/", Delay(0.8, OK))
    none = Config(connect_timeout=None, read_timeout=None)

    client(server.url(""), config=none).list_tables()

    assert governed.told.calls[0].deadline is None


def test_a_timeout_of_one_request_is_the_apps_own(
    govern: Govern, server: Server
) -> None:
    """A handler of the app may give one."""
    govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    server.script("/", Delay(0.8, OK))
    made = client(server.url(""))

    def allow(context: Any, **_: Any) -> None:
        context["read_timeout"] = 5

    made.meta.events.register("before-call.dynamodb.ListTables", allow)

    assert made.list_tables()


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("sqs", "receive_message", {"QueueUrl": "http://q"}),
        ("stepfunctions", "get_activity_task", {"activityArn": "arn"}),
        ("lambda", "invoke", {"FunctionName": "f"}),
        ("bedrock-runtime", "invoke_model", {"modelId": "m", "body": b""}),
    ],
)
def test_what_waits_by_its_nature_is_not_cut(
    govern: Govern, server: Server, service: str, operation: str, arguments: Any
) -> None:
    """A long poll, or the customer's own work, takes longer than other calls."""
    governed = govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    late = Delay(0.8, OK)
    made = client(server.url(""), service)
    made.meta.events.register(
        "request-created", lambda request, **_: server.script(_path(request), late)
    )

    getattr(made, operation)(**arguments)

    (call,) = governed.told.calls
    assert (None, False, True) == (call.deadline, call.measured, call.unbounded)
    assert 60 == made.meta.config.read_timeout


def _path(request: Any) -> str:
    return f"/{request.url.partition('://')[2].partition('/')[2]}"


def test_what_does_not_wait_is_cut_for_the_same_client(
    govern: Govern, server: Server
) -> None:
    """Its timeout is given to each request."""
    govern(TIMEOUT_READ="0.2")
    server.script("/", Hang())

    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        client(server.url(""), "sqs", config=ONCE).list_queues()


def test_operations_that_botocore_knows_to_wait_are_not_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own list may know more than ours."""
    handler: Any = botocore.retries.standard.RetryHandler
    monkeypatch.setattr(
        handler, "_LONG_POLLING_OPERATIONS", {"dynamodb": {"ListTables"}}
    )
    made = client("http://localhost")

    waiting = [
        name
        for name in ("ListTables", "GetItem")
        if room._is_waiting(made.meta.service_model.operation_model(name))
    ]

    assert ["ListTables"] == waiting


def test_a_stream_is_not_cut_by_a_timeout_of_ours(
    govern: Govern, server: Server
) -> None:
    """What an app reads itself has the pauses that botocore allows."""
    govern(TIMEOUT_READ="0.3", TIMEOUT_TOTAL="0.6")
    server.script("/b/k", EventStream([b"a", b"b", b"c"], gap=0.5))

    answer = s3(server).get_object(Bucket="b", Key="k")

    assert b"abc" == answer["Body"].read()


def test_a_stream_that_begins_with_a_503_is_tried_again(
    govern: Govern, server: Server
) -> None:
    """The app sees only the answer that came through."""
    governed = govern()
    server.script("/b/k", Status(503), Status(200, body=b"ok"))

    answer = s3(server).get_object(Bucket="b", Key="k")

    assert b"ok" == answer["Body"].read()
    assert [2] == governed.told.retries


def test_a_stream_that_hangs_ends_by_the_apps_own_timeout(
    govern: Govern, server: Server
) -> None:
    """The agent takes no limit away."""
    govern()
    server.script("/b/k", StallBody())

    body = s3(server, read_timeout=0.3).get_object(Bucket="b", Key="k")["Body"]

    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        body.read()


@pytest.mark.slow
def test_a_short_connect_timeout_never_kills_an_upload(
    govern: Govern, server: Server
) -> None:
    """30 MB to a server that reads 5 MB a second take far longer, and arrive."""
    govern(TIMEOUT_CONNECT="0.5")
    size = 30_000_000
    server.script("/b/k", SlowReader(5_000_000, Status(200)))

    s3(server).put_object(Bucket="b", Key="k", Body=b"x" * size)

    assert size == len(server.hits("/b/k")[0].body)


def test_the_apps_number_of_attempts_holds(govern: Govern, server: Server) -> None:
    """Its retries are neither more nor fewer than without the agent."""
    govern(BREAKER_CONSECUTIVE="50", RETRY_MAX_ATTEMPTS="1")
    server.script("/", Status(503))
    five = Config(retries={"total_max_attempts": 5})

    with pytest.raises(botocore.exceptions.ClientError):
        client(server.url(""), config=five).list_tables()

    assert 5 == len(server.hits("/"))


@pytest.mark.parametrize("mode", ["legacy", "adaptive"])
def test_every_mode_of_retries_is_followed(
    govern: Govern, server: Server, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They differ above and below what is wrapped."""
    governed = govern()
    monkeypatch.setattr(time, "sleep", lambda _: None)
    server.script("/", Status(503), OK)

    client(server.url(""), config=Config(retries={"mode": mode})).list_tables()

    assert [2] == governed.told.retries
    assert ["success"] == governed.told.outcomes


def test_a_failed_answer_gives_its_connection_back(
    govern: Govern, server: Server
) -> None:
    """One connection for all."""
    govern(BREAKER_CONSECUTIVE="50")
    server.script("/", *[Status(503), OK] * 3)
    made = client(server.url(""))

    for _ in range(3):
        made.list_tables()

    assert 1 == server.connections


def test_a_body_that_cannot_be_parsed_is_not_tried_again(
    govern: Govern, server: Server
) -> None:
    """The app's call failed, and the service is not to blame."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/", Status(200, {}, b"<no xml"))

    with pytest.raises(botocore.parsers.ResponseParserError):
        client(server.url(""), "sts").get_caller_identity()

    assert 1 == len(server.hits("/"))
    assert ["error"] == governed.told.outcomes
    assert "closed" == governed.state()


def test_a_certificate_that_is_not_trusted_is_no_evidence(
    govern: Govern, tls_server: Server
) -> None:
    """Botocore tries again by its own rules; the service is alive."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    tls_server.script("/", OK)

    with pytest.raises(botocore.exceptions.SSLError):
        client(tls_server.url("")).list_tables()

    assert "closed" == governed.state()


def test_a_request_that_cannot_be_sent_is_the_apps_own_fault(
    govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the service nor the connection had a part in it."""
    governed = govern(BREAKER_CONSECUTIVE="1")

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "request", fail)
    with pytest.raises(botocore.exceptions.HTTPClientError):
        client(server.url(""), config=ONCE).list_tables()

    assert "closed" == governed.state()
    assert ["error"] == governed.told.outcomes


def test_a_stubber_answers_in_the_place_of_the_service(
    govern: Govern, server: Server
) -> None:
    """It sees one call, and there is none to tell of."""
    governed = govern()
    made = client(server.url(""))
    with botocore.stub.Stubber(made) as stubber:
        stubber.add_client_error("list_tables", http_status_code=503)

        with pytest.raises(botocore.exceptions.ClientError):
            made.list_tables()

        stubber.assert_no_pending_responses()
    assert [] == server.hits()
    assert [] == governed.told.events


def test_a_handler_that_answers_before_sending_sees_what_botocore_sends(
    govern: Govern,
) -> None:
    """Mocks of whole services do it: the call is told, no attempt was made."""
    governed = govern()
    made = client(dead())
    seen = []

    def answer(request: Any, **_: Any) -> Any:
        seen.append(request.url)
        raw: Any = io.BytesIO(b"{}")
        raw.stream = lambda **_: iter([b"{}"])
        return botocore.awsrequest.AWSResponse(request.url, 200, {}, raw)

    made.meta.events.register("before-send.dynamodb.ListTables", answer)

    made.list_tables()

    assert 1 == len(seen)
    assert [("success", 0)] == [facts[:2] for facts in governed.told.of("call_ended")]


def test_a_cassette_is_left_alone(
    govern: Govern, server: Server, tmp_path: Path
) -> None:
    """It plays back as many calls as were recorded."""
    governed = govern()
    server.script("/", OK)

    for _ in range(2):
        with vcr.use_cassette(tmp_path / "cassette.yaml"):
            client(server.url(""), config=ONCE).list_tables()

    assert 1 == len(server.hits("/"))
    assert [] == governed.told.events


def test_what_botocore_asks_for_itself_is_left_alone(
    govern: Govern, server: Server
) -> None:
    """Credentials come from a metadata service that has timeouts of its own."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/meta", Status(503), Status(200, body=b"ok"))
    own = botocore.httpsession.URLLib3Session(timeout=5)
    server.script("/", OK)
    made = client(server.url(""))

    def ask(**_: Any) -> None:
        request = botocore.awsrequest.AWSRequest("GET", server.url("/meta"))
        own.send(request.prepare())

    ask()
    made.meta.events.register("request-created.dynamodb.ListTables", ask)
    made.list_tables()

    assert 2 == len(server.hits("/meta"))
    assert ["DynamoDB.ListTables"] == [call.endpoint for call in governed.told.calls]
    assert ["success"] == outcomes(governed)


def test_what_a_handler_sends_besides_is_no_attempt(
    govern: Govern, server: Server
) -> None:
    """One attempt is let through, and one is told."""
    governed = govern()
    server.script("/", OK)
    made = client(server.url(""))

    def send_another(request: Any, **_: Any) -> None:
        made._endpoint.http_session.send(request)

    made.meta.events.register("before-send.dynamodb.ListTables", send_another)

    made.list_tables()

    assert 2 == len(server.hits("/"))
    assert ["success"] == outcomes(governed)


def test_clients_copy_as_without_the_agent(govern: Govern, server: Server) -> None:
    """What pickles and what does not is what it was."""

    def pickles(thing: Any) -> bool:
        try:
            pickle.dumps(thing)
        except Exception:
            return False
        return True

    plain = client(server.url(""))
    before = [pickles(plain), pickles(plain.list_tables), pickles(plain.meta.config)]
    govern()
    server.script("/", OK)

    made = client(server.url(""))

    after = [pickles(made), pickles(made.list_tables), pickles(made.meta.config)]
    assert before == after
    assert made.list_tables == copy.copy(made.list_tables)


def test_a_client_that_is_gone_is_not_kept(govern: Govern, server: Server) -> None:
    """Nothing of the agent holds it."""
    govern()
    gone = weakref.ref(client(server.url(""))._endpoint)

    gc.collect()

    assert gone() is None


def test_keys_are_no_part_of_a_label(govern: Govern, server: Server) -> None:
    """An operation has a name; what it is asked for is no part of it."""
    governed = govern()
    made = s3(server)

    for number in range(20):
        server.script(f"/b/k-{number}", Status(200))
        made.head_object(Bucket="b", Key=f"k-{number}")

    assert {"S3.HeadObject"} == {call.endpoint for call in governed.told.calls}


def test_calls_of_telemetry_pass_untouched(govern: Govern, server: Server) -> None:
    """An exporter that asks to be left alone is not counted."""
    from opentelemetry import context

    governed = govern()
    server.script("/", OK)
    key = context._SUPPRESS_INSTRUMENTATION_KEY
    token = context.attach(context.set_value(key, value=True))
    try:
        client(server.url("")).list_tables()
    finally:
        context.detach(token)

    assert [] == governed.told.events


def test_two_threads_and_one_client_do_not_mix(govern: Govern, server: Server) -> None:
    """Each has a call of its own."""
    governed = govern()
    server.script("/", Delay(0.1, Status(503)), Delay(0.1, Status(503)), OK)
    made = client(server.url(""))
    threads = [threading.Thread(target=made.list_tables) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [("success", 2), ("success", 2)] == [
        facts[:2] for facts in governed.told.of("call_ended")
    ]


def test_a_full_bulkhead_refuses_by_botocores_own_error(
    govern: Govern, server: Server
) -> None:
    """No attempt was made."""
    governed = govern()
    registry = governed.runtime.registry
    registry.settings = dataclasses.replace(
        registry.settings, bulkhead=BulkheadSettings(limit=1, queue=1, wait=0.05)
    )
    gate = Gate(OK)
    server.script("/", gate)
    made = client(server.url(""))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(made.list_tables)
        server.wait_for_hits("/", 1)
        with pytest.raises(BulkheadFullError) as raised:
            made.list_tables()
        gate.opened.set()

    assert first.result()
    assert isinstance(raised.value, botocore.exceptions.EndpointConnectionError)


def test_no_time_left_means_no_attempt(govern: Govern, server: Server) -> None:
    """The error is a read timeout of botocore, and says that nothing was tried."""
    governed = govern()
    token = CURRENT.set(time.monotonic())
    try:
        with pytest.raises(botocore.exceptions.ReadTimeoutError) as raised:
            client(server.url("")).list_tables()
    finally:
        CURRENT.reset(token)

    assert isinstance(raised.value, DeadlineExceededError)
    assert [] == server.hits()
    assert ["timeout"] == governed.told.outcomes


def test_a_call_that_is_only_observed_is_plain(govern: Govern, server: Server) -> None:
    """It is counted once; what would have been done is told."""
    governed = govern(MODE="observe", BREAKER_CONSECUTIVE="1")
    server.script("/", Status(503), OK)
    made = client(server.url(""))

    made.list_tables()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client(dead()).list_tables()

    assert 2 == len(server.hits("/"))
    assert ["success", "error"] == governed.told.outcomes


def test_a_switch_lets_calls_pass(govern: Govern, server: Server) -> None:
    """As if the agent were not there, its errors too."""
    governed = govern()
    registry = governed.runtime.registry
    registry.settings = dataclasses.replace(registry.settings, enabled=False)
    server.script("/", Status(503), OK)

    client(server.url("")).list_tables()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client(dead()).list_tables()

    assert [] == governed.told.events


def test_an_asynchronous_endpoint_is_left_alone(govern: Govern) -> None:
    """Others build on these classes with another kind of session."""
    governed = govern()
    endpoint = client("http://localhost")._endpoint
    endpoint.http_session = object()
    endpoint._send_request = lambda *_: "later"

    assert "later" == endpoint.make_request(None, {})
    assert [] == governed.told.events


def test_credentials_that_are_missing_are_the_apps_own_fault(
    govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt was made, and a probe would give its place back."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    governed = govern(BREAKER_CONSECUTIVE="1")
    session = botocore.session.Session()
    made = session.create_client(
        "dynamodb", region_name="us-east-1", endpoint_url=server.url("")
    )

    with pytest.raises(botocore.exceptions.NoCredentialsError):
        made.list_tables()

    assert [("error", 0)] == [facts[:2] for facts in governed.told.of("call_ended")]
    assert "closed" == governed.state()


def test_a_body_that_cannot_say_its_size_is_no_obstacle() -> None:
    """It is not hurried."""

    class Odd(io.BytesIO):
        def seek(self, *_: Any) -> int:
            raise ValueError

    sizes = [
        room._size({"body": body, "headers": {"Content-Type": kind}})["Content-Length"]
        for body, kind in [(b"four", "text/plain"), (Odd(b"x"), b"bytes")]
    ]

    assert ["4", ""] == sizes


# -- faults of ours -----------------------------------------------------------


def test_a_fault_while_a_client_is_made_lets_it_be_made(govern: Govern) -> None:
    """The app wins."""
    governed = govern()
    governed.runtime.registry = None  # type: ignore[assignment]
    governed.expected_faults = ["describe"]

    assert 60 == client("http://localhost").meta.config.read_timeout


def test_a_fault_while_describing_lets_the_call_through(
    govern: Govern, server: Server
) -> None:
    """As without the agent."""
    governed = govern()
    server.script("/", Status(503), OK)
    made = client(server.url(""))
    governed.runtime.registry = None  # type: ignore[assignment]
    governed.expected_faults = ["describe"]

    assert made.list_tables()
    assert [] == governed.told.events


def test_a_fault_before_the_first_attempt_lets_the_call_through(
    govern: Govern, server: Server
) -> None:
    """Botocore's loop runs as it would."""
    governed = govern()

    def fail() -> None:
        raise RuntimeError

    governed.runtime.begin = fail
    governed.expected_faults = ["engine"]
    server.script("/", Status(503), OK)

    assert client(server.url("")).list_tables()
    assert 2 == len(server.hits("/"))


@pytest.mark.parametrize(
    "event", ["call_started", "attempt_started", "attempt_ended", "retry_scheduled"]
)
def test_an_observer_that_fails_costs_no_call(
    govern: Govern, server: Server, event: str
) -> None:
    """What was sent is not sent again because telling of it failed."""
    governed = govern()

    def fail(*_: object) -> None:
        raise RuntimeError

    setattr(governed.told, event, fail)
    governed.expected_faults = ["engine"]
    server.script("/", Status(503), OK)

    assert client(server.url("")).list_tables()
    assert 2 == len(server.hits("/"))


def test_an_observer_that_fails_at_the_end_costs_no_call(
    govern: Govern, server: Server
) -> None:
    """The app has its answer."""
    governed = govern()

    def fail(*_: object) -> None:
        raise RuntimeError

    governed.told.call_ended = fail  # type: ignore[attr-defined]
    governed.expected_faults = ["engine"]
    server.script("/", OK)

    assert client(server.url("")).list_tables()


def test_an_observer_that_fails_again_is_reported_once(
    govern: Govern, server: Server
) -> None:
    """What follows a fault passes untouched, and the end of the call is tried."""
    governed = govern()

    def fail(*_: object) -> None:
        raise RuntimeError

    governed.told.attempt_ended = governed.told.call_ended = fail  # type: ignore[attr-defined]
    governed.expected_faults = ["engine"]
    server.script("/", Status(503), OK)

    assert client(server.url("")).list_tables()
    assert 2 == len(server.hits("/"))


def test_a_version_without_timeouts_of_requests_has_those_of_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older one gives nothing else to hold on to."""
    monkeypatch.delattr(botocore.httpsession.URLLib3Session, "_get_request_timeout")
    runtime: Any = None

    names = {target.name for target in room.targets(runtime)}

    assert "_get_request_timeout" not in names
    assert {"make_request", "send", "_needs_retry", "create_client"} <= names
