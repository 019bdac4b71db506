"""`gmvaluator serve` under load: MNIST, 60,000 training digits, 32 clients, one process.

    python benchmarks/serve_load.py --data DATA --out docs/results

Clients are threads of this process. Each sends a test digit, waits for the answer and sends the
next. The answers of some pictures are compared with those that they get alone and with those of
`gmvaluator match`. Then come more clients than may wait, malformed uploads, slow clients, and
SIGKILL while jobs run. All figures are of one run, on the machine that is named.

DATA holds mnist/{train,test}.parquet (Hugging Face layout). `--index` takes a ready index.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from results import arguments, publish

from gmvaluator import Client, ImageSet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from malformed import malformed
from service_process import Process, form, start

KIND = {"Content-Type": "multipart/form-data; boundary=b"}
TOP = 10
FAST = """
import dataclasses, gmvaluator.service.limits as limits
many = {"rate": 1e9, "burst": 10**9}
limits.Limits.__init__.__defaults__ = tuple(
    many.get(field.name, field.default) for field in dataclasses.fields(limits.Limits)
)
"""
"""All clients have one address here: no limit of the rate of a client."""


def main() -> None:
    """Parse, run, write."""
    parser = arguments(__doc__)
    parser.add_argument("--index", type=Path, help="index of the training digits")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--matches", type=int, default=1_600)
    parser.add_argument("--compared", type=int, default=24)
    parser.add_argument("--malformed", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    test = ImageSet.open(args.data / "mnist" / "test.parquet")
    rows = np.random.default_rng(0).permutation(len(test))[: max(args.matches, 200)]
    pictures = [test.read_bytes(int(row)) for row in rows]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        index = args.index or embedded(args.data, work)
        begun = time.monotonic()
        service = start(index, "--jobs", work / "jobs", code=FAST)
        service.wait_until_ready()
        result: dict[str, Any] = {"seconds_to_ready": time.monotonic() - begun}
        result["alone"] = alone = load(service, pictures[:50], 1)
        result["load"] = loaded = load(service, pictures[: args.matches], args.clients)
        result["same"] = same_answers(service, index, pictures[: args.compared], work)
        result["beyond"] = beyond = load(service, pictures[:600], 300)
        result["malformed"] = broken = malformed_uploads(service, args.malformed)
        service.process.terminate()
        service.process.communicate()
        result["kills"] = killed = kills(index, pictures[:40], work / "killed", args.kills)
    lines = [
        "| what | figure |",
        "|---|---|",
        f"| seconds from start to ready | {result['seconds_to_ready']:.1f} |",
        f"| one client: matches a second, p95 | {alone['rate']:.1f}, {alone['p95']:.2f} |",
        f"| {args.clients} clients: matches a second, p50, p95 | {loaded['rate']:.1f}, "
        f"{loaded['p50']:.2f}, {loaded['p95']:.2f} |",
        f"| {args.clients} clients: processor seconds of the service a match "
        f"| {loaded['cpu_seconds']:.3f} |",
        f"| statuses of {args.matches:,} requests | {shown(loaded['statuses'])} |",
        f"| answers that differ under load, alone and by `gmvaluator match`, of {args.compared} "
        f"| {result['same']} |",
        f"| 300 clients: statuses, 429 without Retry-After | {shown(beyond['statuses'])}, "
        f"{beyond['no_retry']} |",
        f"| {args.malformed:,} malformed uploads: statuses | {shown(broken['statuses'])} |",
        f"| memory after them, of that before | {broken['memory']:.2f} |",
        f"| {args.kills} kills during jobs: accepted, done, failed with a reason, lost "
        f"| {', '.join(map(str, killed.values()))} |",
    ]
    publish(args.out, "serve_load", result, lines)


def embedded(data: Path, work: Path) -> Path:
    """An index of the training digits."""
    words = ("embed", data / "mnist" / "train.parquet", "--out", work / "mnist.index")
    command_line(*words)
    return work / "mnist.index"


def command_line(*words: object) -> str:
    """What `gmvaluator WORDS` prints."""
    program = "import sys; from gmvaluator.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, words), "--quiet"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def post(service: Process, contents: Sequence[bytes]) -> tuple[int, dict[str, str], bytes]:
    """One request to match, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    try:
        connection.request("POST", f"/v1/match?top={TOP}", form(contents), KIND)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


def load(service: Process, pictures: Sequence[bytes], clients: int) -> dict[str, Any]:
    """Every picture once, by so many clients."""
    spent: list[float] = []
    statuses: Counter[int] = Counter()
    no_retry = 0

    def ask(picture: bytes) -> None:
        nonlocal no_retry
        begun = time.monotonic()
        status, headers, _ = post(service, [picture])
        statuses[status] += 1
        no_retry += status == 429 and "retry-after" not in headers
        if status == 200:
            spent.append(time.monotonic() - begun)

    begun, before = time.monotonic(), processor_seconds(service)
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(ask, pictures))
    return {
        "rate": len(spent) / (time.monotonic() - begun),
        "cpu_seconds": (processor_seconds(service) - before) / len(spent),
        "p50": float(np.quantile(spent, 0.5)),
        "p95": float(np.quantile(spent, 0.95)),
        "statuses": dict(statuses),
        "no_retry": no_retry,
    }


def same_answers(service: Process, index: Path, pictures: Sequence[bytes], work: Path) -> int:
    """Number of pictures whose answers are not the same alone, under load and by the command."""
    alone = [post(service, [picture])[2] for picture in pictures]
    with ThreadPoolExecutor(len(pictures)) as threads:
        together = list(threads.map(lambda picture: post(service, [picture])[2], pictures))
    files = [work / f"{number:03d}.png" for number in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        file.write_bytes(picture)
    printed = json.loads(command_line("match", index, *files, "--top", TOP, "--json"))
    different = 0
    for one, other, wanted in zip(alone, together, printed, strict=True):
        (match,) = json.loads(one)["matches"]
        names = ("train_id", "distance", "score")
        lines = [{name: line[name] for name in names} for line in match["contributors"]]
        same = lines == wanted["contributors"]
        same &= all(match[name] == wanted[name] for name in ("quality", "match_p", "copy_of"))
        if not (same and one == other):
            print("different:", one == other, match, wanted, file=sys.stderr)
            different += 1
    return different


def malformed_uploads(service: Process, n: int) -> dict[str, Any]:
    """Malformed uploads, one a request, and clients that stop in the middle."""
    # what a first request of the kind loads stays
    for content in malformed(50, seed=9):
        post(service, [content])
    before = memory(service)
    statuses: Counter[int] = Counter()

    def ask(content: bytes) -> None:
        statuses[post(service, [content])[0]] += 1

    slow = [threading.Thread(target=stop_in_the_middle, args=(service,)) for _ in range(20)]
    for thread in slow:
        thread.start()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, malformed(n)))
    for thread in slow:
        thread.join()
    return {"statuses": dict(statuses), "memory": memory(service) / before}


def stop_in_the_middle(service: Process) -> None:
    """A body that stops, and a head that stops."""
    for text in (
        b"POST /v1/match HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\nx",
        b"G",
    ):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(text)
            time.sleep(1)


def processor_seconds(service: Process) -> float:
    """Processor time that the service has taken; other processes do not count."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(service: Process) -> int:
    """Resident bytes of the process."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def kills(index: Path, pictures: Sequence[bytes], jobs: Path, n: int) -> dict[str, int]:
    """What became of the jobs that services had accepted which were killed at random moments."""
    moments = random.Random(0)
    accepted: list[str] = []
    body = form(pictures)
    for _ in range(n):
        service = start(index, "--jobs", jobs)
        service.wait_until_ready()
        for _ in range(2):
            submit(service, body, accepted.append)
        threading.Timer(
            moments.uniform(0, 2), service.process.send_signal, (signal.SIGKILL,)
        ).start()
        while service.process.poll() is None:
            submit(service, body, accepted.append)
            time.sleep(0.3)
        service.process.communicate()
    service = start(index, "--jobs", jobs)
    service.wait_until_ready()
    client = Client(service.address)
    ends = Counter[str]()
    for job_id in accepted:
        while (job := client.job(job_id)).state in ("queued", "running"):
            time.sleep(0.1)
        ends[job.state if job.state == "done" or job.reason else "lost"] += 1
    service.process.terminate()
    service.process.communicate()
    return {
        "accepted": len(accepted),
        "done": ends["done"],
        "failed": ends["failed"],
        "lost": ends["lost"],
    }


def submit(service: Process, body: bytes, accept: Callable[[str], None]) -> None:
    """Submit a job; `accept` hears of it if the service says so."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        connection.request("POST", "/v1/value", body, KIND)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status == 202:
            accept(json.loads(content)["id"])
    except (OSError, http.client.HTTPException, ValueError):
        return  # killed meanwhile
    finally:
        connection.close()


def shown(statuses: dict[int, int]) -> str:
    """Numbers of answers by status."""
    return ", ".join(f"{number:,} × {status}" for status, number in sorted(statuses.items()))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main()
