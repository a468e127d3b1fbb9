"""urllib.request behind the interface of the contract."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any

from integrations.harness import Answer, Errors, Traits, Wish, tls_context


class UrllibRequest:
    library = "urllib.request"
    traits = Traits(reads=False, rewinds=True, asked="full_url", decodes=False)
    # The body is read by the app, which sees errors of another family there.
    base_error: Errors = (OSError, http.client.HTTPException)
    connection_error: type[Exception] = urllib.error.URLError
    timeout_errors: tuple[type[Exception], ...] = (urllib.error.URLError, TimeoutError)

    def send(self, wish: Wish) -> Answer:
        options: dict[str, Any] = wish.options("data")
        request = urllib.request.Request(
            wish.url,
            method=wish.method,
            data=options.pop("data", None),
            headers=options.pop("headers"),
        )
        context = tls_context(wish.verify)
        options["context"] = None if context is True else context
        try:
            with urllib.request.urlopen(request, **options) as response:
                if wish.stream:
                    return Answer(response.status, b"".join(response))
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as answer:
            with answer:
                return Answer(answer.code, answer.read())
        except Exception as error:
            return Answer(error=error)
