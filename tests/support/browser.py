"""Pages in a browser without a window: what a script on them finds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from typing import Any

import pytest

_CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
browser = pytest.mark.skipif(not _CHROMIUM, reason="no Chromium is installed")


def probe(script: str) -> str:
    """An element that has an expression of JavaScript, or what it promises, told by the page."""
    told = "(found) => { document.title = JSON.stringify(found); }"
    return f"<script>Promise.resolve({script}).then({told})</script>"


def told_by(address: str, *, milliseconds: int = 0, width: int = 1280) -> Any:
    """What the probe of a page tells.

    Parameters
    ----------
    milliseconds: of the page's own time that what is promised may take. `width`: of the window.
    """
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    patience = [f"--virtual-time-budget={milliseconds}"] if milliseconds else []
    look = ["--headless", "--disable-gpu", f"--window-size={width},900"]
    dom = subprocess.run(
        [_CHROMIUM, *look, *sandbox, *patience, "--dump-dom", address],
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout.decode()
    found = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert found
    return json.loads(unescape(found[1]))
