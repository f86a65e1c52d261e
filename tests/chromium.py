"""Tests that need a browser are skipped without one, except in .ci/run, where a missing browser is an error."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    not CHROMIUM and os.environ.get("CTVLM_REQUIRE_BROWSER") != "1", reason="no Chromium: apt-get install chromium"
)
