"""The page at ``/``: one file without data, that a browser is told to run as it is and nothing else."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

_INLINE: Final = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


def page() -> tuple[bytes, dict[str, str]]:
    """Return the page, and the headers that it is sent with.

    The policy names its style and its script by their hashes: whatever else came into the page would not be run, asks
    nobody but this service, and text cannot become markup.
    """
    document = files("backsight_model.serving").joinpath("page.html").read_bytes()
    hashes = {
        name.decode(): base64.b64encode(hashlib.sha256(text).digest()).decode()
        for name, text in _INLINE.findall(document)
    }
    policy = {
        "default-src": "'none'",
        "style-src": f"'sha256-{hashes['style']}'",
        "script-src": f"'sha256-{hashes['script']}'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return document, {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
