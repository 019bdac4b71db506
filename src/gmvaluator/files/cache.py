"""Where files that can be had again are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_base() -> Path:
    """$GMVALUATOR_CACHE, else the user's cache directory of this system."""
    import platformdirs

    base = os.environ.get("GMVALUATOR_CACHE") or platformdirs.user_cache_dir("gmvaluator")
    return Path(base).expanduser()
