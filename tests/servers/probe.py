"""The little HTTP that readiness checks and kubectl-less tests need."""

import http.client
import ssl
import urllib.error
import urllib.request


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a GET gives 200; raises OSError when nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error!r}") from error
