"""`gmvaluator serve`: indexes and runs as a REST service."""

from __future__ import annotations

from pathlib import Path

import click

from gmvaluator.cli.help import verb
from gmvaluator.cli.options import BY, CACHE, PATH, flag, option, options


@verb("serve run/ --port 8000")
@click.argument("folders", metavar="INDEX_OR_RUN", nargs=-1, required=True, type=PATH)
@options(
    option("--host", "Address to listen at.", default="127.0.0.1"),
    option(
        "--port",
        "Port to listen at; 0: any free one.",
        type=click.IntRange(0, 65_535),
        default=8000,
    ),
    option(
        "--token",
        "Text that clients must send as bearer token. Needed where --host lets other machines "
        "call. Also $GMVALUATOR_TOKEN, which other users of the machine do not see. Default: no "
        "token.",
        envvar="GMVALUATOR_TOKEN",
    ),
    option(
        "--allow-host NAME",
        "Further name that clients may call the service by, such as that of a reverse proxy. "
        "Default: localhost and --host.",
        multiple=True,
    ),
    flag(
        "--proxy",
        "Take the addresses of clients from X-Forwarded-For of a reverse proxy on this machine.",
    ),
    option(
        "--jobs",
        "Folder that keeps jobs and their results. Default: gmvaluator/jobs in the user's data "
        "folder.",
        type=PATH,
    ),
    BY,
    CACHE,
)
def serve(
    folders: tuple[Path, ...],
    host: str,
    port: int,
    token: str | None,
    allow_host: tuple[str, ...],
    proxy: bool,
    jobs: Path | None,
    by: str | None,
    cache: Path | None,
) -> None:
    """Serve each INDEX_OR_RUN over HTTP, on this machine only.

    Clients send pictures and get their contributors; see docs/howto/serve.md. The owners that
    --by names can be searched for. Ends with Ctrl-C; jobs go on after the next start.
    """
    from gmvaluator.cli.printing import print_note
    from gmvaluator.service.server import check_exposure, listen, require_packages
    from gmvaluator.service.server import serve as serve_socket

    require_packages()
    check_exposure(host, token)
    from gmvaluator.service.app import Config

    taken = listen(host, port)
    config = Config(
        folders=folders,
        jobs=jobs or jobs_folder(),
        token=token,
        host=host,
        allowed_hosts=allow_host,
        by=by,
        cache=cache,
    )
    shown = f"[{host}]" if ":" in host else host
    print_note(f"http://{shown}:{taken.getsockname()[1]}")
    serve_socket(config, taken, proxy=proxy)


def jobs_folder() -> Path:
    """Where jobs are kept by default."""
    import platformdirs

    return Path(platformdirs.user_data_dir("gmvaluator")) / "jobs"
