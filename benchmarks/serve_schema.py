"""Requests made from the OpenAPI document of `gmvaluator serve`: no 5xx, no answer beyond it.

    pip install schemathesis
    python benchmarks/serve_schema.py RUN --seconds 100

schemathesis makes valid and broken requests for every address, alone and in chains. The exit code
is that of schemathesis: 0 where every answer is one of the document.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from serve_load import FAST

from service_process import end, running

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    "response_schema_conformance",
)


def main() -> int:
    """Serve, ask, end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder to serve")
    parser.add_argument("--seconds", type=int, default=100)
    args = parser.parse_args()
    program = Path(sys.executable).with_name("schemathesis")
    with tempfile.TemporaryDirectory() as jobs:
        with running(args.run, "--jobs", jobs, code=FAST) as service:
            address = f"{service.address}/openapi.json"
            words = ("run", address, "--checks", ",".join(CHECKS), "--max-time", str(args.seconds))
            status = subprocess.run([program, *words], check=False).returncode
            end(service)
    return status


if __name__ == "__main__":
    sys.exit(main())
