"""The cases that HTTP clients are held to, and the tests that hold them.

Run as a program it writes `docs/http-cases.md`; with `--check` it only tells whether
that page says what stands here.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "http-cases.md"

CLIENTS = ("requests", "httpx", "httpx, async", "aiohttp", "urllib3", "urllib.request")
"""What passes the contract; httpx2 passes all that httpx passes."""

COLUMNS = (*CLIENTS, "botocore")
"""All libraries. botocore has a loop of its own, and signs what it sends."""

CONTRACT = "test_http_contract.py"

FILES: dict[str, tuple[str, ...]] = {
    CONTRACT: CLIENTS,
    "test_requests.py": ("requests",),
    "test_httpx.py": ("httpx", "httpx, async"),
    "test_http2.py": ("httpx, async",),
    "test_aiohttp.py": ("aiohttp",),
    "test_urllib3.py": ("urllib3",),
    "test_urllib_request.py": ("urllib.request",),
    "test_botocore.py": ("botocore",),
    "test_retriers.py": CLIENTS,
    "test_test_tools.py": ("requests", "httpx", "httpx, async"),
    "test_telemetry.py": ("requests",),
    "test_endpoint.py": CLIENTS,
    "test_patch.py": CLIENTS,
}
"""Where tests are, and for which libraries they speak."""

BODY = "the app reads the body itself, after the call"
OWN_RULES = "tries again, and pauses, by its own rules"
SIGNS = "signs each attempt by itself, and nothing is added to what is signed"
WHOLE = "speaks HTTP/1.1, or ends a connection as a whole"
HOPS = "follows no redirects"


@dataclasses.dataclass(frozen=True)
class Case:
    """One case: what happens, which tests hold it, and where it cannot apply.

    Attributes:
        what: What happens, and what comes of it.
        tests: The names of the tests that hold it.
        except_for: Clients to which it does not apply.
        why: Why not.
        botocore: Why it does not apply to botocore, empty if it does.
    """

    what: str
    tests: tuple[str, ...]
    except_for: tuple[str, ...] = ()
    why: str = ""
    botocore: str = ""

    def reason(self, library: str) -> str:
        """Return why the case does not apply to a library, empty if it does."""
        if library == "botocore":
            return self.botocore
        return self.why if library in self.except_for else ""


APP_READS = ("aiohttp", "urllib.request")

CASES = (
    Case(
        "503, then 200: the app gets the 200",
        (
            "test_a_503_that_botocore_tries_again_is_one_call",
            "test_two_503s_and_a_200_are_a_200",
        ),
    ),
    Case(
        "503 three times: the last one is handed on, no error",
        (
            "test_the_last_503_surfaces_as_botocore_words_it",
            "test_the_last_503_is_handed_to_the_app",
        ),
    ),
    Case(
        "404: one attempt, the circuit is unchanged",
        ("test_a_client_error_is_an_answer",),
    ),
    Case(
        "POST and 503: sent once",
        ("test_a_post_is_sent_once",),
        botocore=OWN_RULES,
    ),
    Case(
        "POST with an idempotency key: tried again, same key and body",
        ("test_a_post_with_an_idempotency_key_is_tried_again",),
        botocore=OWN_RULES,
    ),
    Case(
        "POST to a closed port: tried again, then the library's own error",
        ("test_a_refused_post_is_tried_again",),
    ),
    Case(
        "POST and no answer: sent once",
        ("test_a_post_without_an_answer_is_sent_once",),
        botocore=OWN_RULES,
    ),
    Case(
        "a connection that is closed or reset: tried again",
        ("test_a_broken_connection_is_tried_again",),
    ),
    Case(
        "a server that hangs: one read timeout, then the answer",
        ("test_a_read_timeout_is_tried_again",),
    ),
    Case(
        "a body that ends before its length: the app gets a whole one",
        ("test_a_broken_connection_is_tried_again",),
        APP_READS,
        BODY,
        botocore="compares no lengths",
    ),
    Case(
        "a chunked body without its end: likewise",
        ("test_a_broken_connection_is_tried_again",),
        APP_READS,
        BODY,
    ),
    Case(
        "a body that stalls: likewise",
        ("test_a_read_timeout_is_tried_again",),
        APP_READS,
        BODY,
    ),
    Case(
        "headers that drip: cut at the total, plain and TLS",
        ("test_a_dripping_answer_is_cut_at_the_total",),
    ),
    Case(
        "a body that drips: likewise",
        ("test_a_dripping_answer_is_cut_at_the_total",),
        APP_READS,
        BODY,
    ),
    Case(
        "a chunked body that drips: likewise",
        ("test_a_dripping_answer_is_cut_at_the_total",),
        APP_READS,
        BODY,
    ),
    Case(
        "`Retry-After` in seconds is waited for",
        ("test_retry_after_is_waited_for",),
        botocore=OWN_RULES,
    ),
    Case(
        "`Retry-After` as a date is waited for",
        ("test_a_date_in_retry_after_is_waited_for",),
        botocore=OWN_RULES,
    ),
    Case(
        "`Retry-After` beyond the cap: the answer at once",
        ("test_a_long_retry_after_ends_the_call",),
        botocore=OWN_RULES,
    ),
    Case(
        "`Retry-After` that cannot be read: the usual pause",
        ("test_an_unreadable_retry_after_is_ignored",),
        botocore=OWN_RULES,
    ),
    Case(
        "`Retry-After` beyond the deadline: the answer at once",
        ("test_a_retry_after_beyond_the_deadline_ends_the_call",),
        botocore=OWN_RULES,
    ),
    Case(
        "a redirect to a failing target: only the target is tried again",
        ("test_each_hop_of_a_redirect_is_judged_for_itself",),
        botocore=HOPS,
    ),
    Case(
        "POST and 303 to a failing GET: the POST is sent once",
        ("test_a_redirected_post_is_sent_once",),
        botocore=HOPS,
    ),
    Case(
        "a redirect to a dead host: only that host's circuit opens",
        ("test_a_dead_target_does_not_open_the_circuit_of_the_redirecting_service",),
        botocore=HOPS,
    ),
    Case(
        "an open circuit: refused without a byte, by the library's own error",
        (
            "test_errors_pickle",
            "test_a_dead_host_opens_its_circuit",
            "test_an_open_circuit_pickles",
        ),
    ),
    Case(
        "one of many callers probes, two successes close",
        ("test_one_of_many_probes_and_two_successes_close",),
    ),
    Case(
        "a probe that is cancelled gives its place back",
        (
            "test_an_interrupted_probe_gives_its_place_back",
            "test_a_call_that_ctrl_c_ends_counts_as_nothing",
            "test_a_cancelled_probe_gives_its_place_back",
            "test_a_cancelled_call_counts_as_nothing",
        ),
    ),
    Case(
        "a circuit that opens between attempts hides no answer",
        (
            "test_the_circuit_ends_botocores_loop",
            "test_a_circuit_that_opens_between_attempts_hides_nothing",
        ),
    ),
    Case(
        "a dead proxy does not open the service's circuit",
        ("test_a_dead_proxy_does_not_open_the_circuit_of_the_service",),
    ),
    Case(
        "a generator as body and 503: sent once",
        (
            "test_a_generator_body_is_not_sent_twice",
            "test_a_body_that_is_gone_is_not_sent_twice",
        ),
        ("httpx, async",),
        "takes no plain generator",
        botocore="takes no plain generator",
    ),
    Case(
        "a generator as body and a refused connection: tried again, whole",
        ("test_a_generator_survives_a_refused_connection",),
        botocore="takes no plain generator",
    ),
    Case(
        "a file as body and 503: wound back, or sent once",
        ("test_a_file_is_wound_back", "test_a_file_is_sent_again_from_where_it_stood"),
        ("httpx, async",),
        "takes no plain file",
    ),
    Case(
        "a host that does not accept: a connect timeout, tried again",
        ("test_a_host_that_does_not_accept_is_a_connect_timeout",),
    ),
    Case(
        "the app's short timeout holds, and is no evidence",
        ("test_the_apps_own_timeout_wins",),
    ),
    Case(
        "the app's choice to have no limit holds",
        (
            "test_a_longer_timeout_of_the_app_is_not_shortened",
            "test_every_way_to_choose_a_timeout_is_the_apps_own",
            "test_no_limit_at_all_can_be_asked_for",
        ),
    ),
    Case(
        "a stream with long gaps is delivered whole",
        ("test_a_stream_is_not_cut_by_a_timeout_of_ours",),
    ),
    Case(
        "a stream that begins with a 503 is tried again",
        ("test_a_stream_that_begins_with_a_503_is_tried_again",),
    ),
    Case(
        "30 MB to a slow reader with a connect timeout of 0.5 s arrive",
        ("test_a_short_connect_timeout_never_kills_an_upload",),
    ),
    Case(
        "tenacity around: its attempts only",
        ("test_a_decorated_function", "test_an_async_for_loop_over_attempts"),
        botocore=OWN_RULES,
    ),
    Case(
        "tenacity around a task or a thread: its attempts only",
        ("test_a_task_inside", "test_a_thread_inside"),
        botocore=OWN_RULES,
    ),
    Case(
        "a declared retry: its attempts only",
        (
            "test_the_apps_number_of_attempts_holds",
            "test_a_header_that_counts_attempts",
            "test_a_mounted_retry_is_the_only_one",
            "test_a_transport_that_retries_is_the_only_one",
            "test_a_transport_that_repeats_connecting",
            "test_retries_of_the_app_are_its_own",
        ),
    ),
    Case(
        "botocore: its own retries, one call with timeouts of ours",
        (
            "test_a_503_that_botocore_tries_again_is_one_call",
            "test_the_timeouts_of_the_settings_are_those_of_a_client",
        ),
        CLIENTS,
        "is not botocore",
    ),
    Case(
        "five times 503 and 200: one connection",
        (
            "test_a_failed_answer_gives_its_connection_back",
            "test_the_rest_of_a_failed_answer_is_read_or_left",
            "test_the_same_holds_for_an_async_client",
        ),
        ("urllib.request",),
        "keeps no connections",
    ),
    Case("the total ends everything, pauses too", ("test_retries_end_with_the_total",)),
    Case(
        "a body that cannot be decoded: one attempt",
        (
            "test_a_body_that_cannot_be_parsed_is_not_tried_again",
            "test_a_corrupt_body_is_not_tried_again",
        ),
    ),
    Case(
        "a certificate that is not trusted: one attempt, no evidence",
        ("test_a_certificate_that_is_not_trusted_is_final",),
        botocore=OWN_RULES,
    ),
    Case(
        "hooks see the final answer only",
        (
            "test_a_hook_sees_the_final_answer_only",
            "test_the_apps_own_middlewares_are_around_ours",
        ),
        ("urllib3", "urllib.request"),
        "has no hooks",
        botocore="shows each of its attempts to its handlers",
    ),
    Case(
        "digest: the second leg is tried again alone",
        ("test_the_second_leg_of_digest_is_tried_again_alone",),
        ("aiohttp", "urllib3", "urllib.request"),
        "signs in a middleware or a handler of its own",
        botocore=SIGNS,
    ),
    Case(
        "an adapter with a default timeout is bounded at last",
        ("test_an_adapter_that_sets_a_default_timeout_is_bounded_at_last",),
        ("httpx", "httpx, async", "aiohttp", "urllib3", "urllib.request"),
        "has no such adapters",
        botocore="has no such adapters",
    ),
    Case(
        "test tools see exactly one call",
        (
            "test_a_handler_of_the_tests_own",
            "test_aioresponses",
            "test_a_handler_that_answers_before_sending_sees_what_botocore_sends",
            "test_a_stubber_answers_in_the_place_of_the_service",
            "test_responses",
            "test_requests_mock",
            "test_respx",
            "test_pytest_httpx",
            "test_a_mock_transport",
            "test_a_wsgi_transport",
            "test_an_asgi_transport",
            "test_vcrpy",
            "test_a_cassette_is_left_alone",
        ),
    ),
    Case(
        "pickling and copying as without the agent",
        (
            "test_clients_copy_as_without_the_agent",
            "test_sessions_pickle_and_copy_as_without_the_agent",
            "test_clients_pickle_and_copy_their_methods_as_without_the_agent",
            "test_a_bound_method_pickles_with_its_object",
            "test_copies_of_bound_methods_are_as_without_the_agent",
        ),
    ),
    Case(
        "HTTP/2: a slow stream is cut alone",
        ("test_a_slow_stream_is_cut_alone",),
        ("requests", "httpx", "aiohttp", "urllib3", "urllib.request"),
        WHOLE,
        botocore=WHOLE,
    ),
    Case(
        "an upgraded connection is left alone",
        (
            "test_an_upgraded_connection_is_left_alone",
            "test_a_websocket_is_upgraded_and_left_alone",
        ),
        ("requests", "urllib3", "urllib.request"),
        "upgrades nothing",
        botocore="upgrades nothing",
    ),
    Case(
        "100,000 paths: no more labels than the limit",
        (
            "test_keys_are_no_part_of_a_label",
            "test_a_hundred_thousand_paths_stay_below_the_limit",
        ),
    ),
    Case(
        "each attempt carries headers of its own",
        ("test_headers_of_an_attempt_are_its_own",),
        botocore=SIGNS,
    ),
    Case(
        "a dead OTLP collector: not retried, not broken, not counted",
        (
            "test_a_dead_collector_is_not_governed",
            "test_calls_of_telemetry_pass_untouched",
        ),
    ),
    Case(
        "a day of `Retry-After` is not slept",
        (
            "test_a_day_of_retry_after_is_not_slept",
            "test_a_long_retry_after_ends_the_call",
        ),
    ),
    Case(
        "two threads and one session do not mix",
        (
            "test_two_threads_and_one_client_do_not_mix",
            "test_two_threads_and_one_session_do_not_mix",
            "test_one_of_many_probes_and_two_successes_close",
        ),
    ),
    Case(
        "inside an event loop a synchronous client does not sleep",
        ("test_a_call_inside_an_event_loop_does_not_stop_it",),
        ("httpx, async", "aiohttp"),
        "waits without stopping others",
        botocore=OWN_RULES,
    ),
    Case(
        "a dead server gets three attempts, not six",
        (
            "test_a_dead_server_gets_three_attempts",
            "test_a_refused_post_is_tried_again",
        ),
    ),
    Case(
        "a fault of the agent lets the call through",
        (
            "test_a_fault_while_describing_lets_the_call_through",
            "test_a_fault_before_the_first_attempt_lets_the_call_through",
            "test_a_fault_after_an_attempt_hands_its_outcome_on",
        ),
    ),
)


@functools.cache
def tests_of(file: str) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


def unknown() -> set[str]:
    """Return the names of tests that no file has."""
    known = set().union(*(tests_of(file) for file in FILES))
    return {test for case in CASES for test in case.tests} - known


def held(case: Case) -> set[str]:
    """Return the libraries for which tests hold a case."""
    libraries: set[str] = set()
    for file, columns in FILES.items():
        if tests_of(file).intersection(case.tests):
            libraries.update(columns)
    return {library for library in libraries if not case.reason(library)}


def page() -> str:
    """Return the page, in Markdown."""
    heads = " | ".join(COLUMNS)
    lines = [
        "# What HTTP clients are held to",
        "",
        "Each case is a server or an app that does one thing, and what comes of it.",
        "A cell says `yes` where a test holds it for the library; httpx2 passes what",
        "httpx passes. The page is written by `make docs` from the tests.",
        "",
        f"| | case | {heads} |",
        f"|---:|---|{':-:|' * len(COLUMNS)}",
    ]
    notes: list[str] = []
    for number, case in enumerate(CASES, 1):
        cells = " | ".join(_cells(case, notes))
        lines.append(f"| {number} | {case.what} | {cells} |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1)), ""]
    return "\n".join(lines)


def _cells(case: Case, notes: list[str]) -> list[str]:
    libraries = held(case)
    cells = []
    for library in COLUMNS:
        reason = case.reason(library)
        if reason and reason not in notes:
            notes.append(reason)
        note = f"({notes.index(reason) + 1})" if reason else "-"
        cells.append("yes" if library in libraries else note)
    return cells


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` tell whether it is current."""
    text = page()
    if arguments == ["--check"]:
        return 0 if PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
