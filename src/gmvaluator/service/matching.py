"""Pictures of many requests, matched together: each gets the answer that it would get alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from time import monotonic

from gmvaluator.errors import GMValuatorError, ImageError
from gmvaluator.images import Skip
from gmvaluator.runs.matches import Match, matches_of
from gmvaluator.service.limits import Limits
from gmvaluator.service.metrics import Metrics
from gmvaluator.service.models import Served
from gmvaluator.service.problems import wait
from gmvaluator.service.uploads import Upload, in_memory

Result = Match | Skip
"""What a picture is answered: its match, or why it cannot be read."""
LEARNING = 0.2
"""Weight of the last batch in the mean time that a picture takes."""


@dataclass(eq=False)
class Waiting:
    """A picture that waits for its match."""

    served: Served
    upload: Upload
    top: int
    future: Future[Result] = field(default_factory=Future)


class Matcher:
    """One thread that matches what waits, `limits.together` pictures at once.

    No answer depends on the pictures beside it (`tests/service/test_same_answers.py`), so pictures
    of different requests share the passes through the networks and the search.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._seconds = 0.02  # of a picture
        self._thread = threading.Thread(target=self._run, name="gmvaluator-match", daemon=True)

    def start(self) -> None:
        """Begin to match."""
        self._thread.start()

    def stop(self) -> None:
        """Match what is under way, and drop what waits."""
        with self._changed:
            self._ended = True
            for waiting in self._waiting:
                waiting.future.cancel()
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def submit(self, served: Served, uploads: Sequence[Upload], top: int) -> list[Future[Result]]:
        """Futures of the results, in the order of the pictures.

        A future that is cancelled before its turn costs nothing.

        Raises:
            Problem: too many pictures wait already.
        """
        with self._changed:
            # a cancelled picture waits no more
            self._waiting = deque(one for one in self._waiting if not one.future.cancelled())
            if self._ended or len(self._waiting) + len(uploads) > self._limits.waiting:
                raise wait("busy", len(self._waiting) * self._seconds)
            new = [Waiting(served, upload, top) for upload in uploads]
            self._waiting.extend(new)
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        return [one.future for one in new]

    def _run(self) -> None:
        while batch := self._take():
            started = monotonic()
            self._match(batch)
            spent = (monotonic() - started) / len(batch)
            self._seconds += LEARNING * (spent - self._seconds)
            self._metrics.matched.inc(len(batch))
            self._metrics.together.observe(len(batch))

    def _take(self) -> list[Waiting]:
        """The next pictures of one index or run, oldest first; none when all has ended."""
        with self._changed:
            while True:
                batch: list[Waiting] = []
                others: deque[Waiting] = deque()
                for one in self._waiting:
                    same = not batch or one.served is batch[0].served
                    if not same or len(batch) >= self._limits.together:
                        others.append(one)
                    elif one.future.set_running_or_notify_cancel():
                        batch.append(one)
                self._waiting = others
                self._metrics.waiting.set(len(others))
                if batch or self._ended:
                    return batch
                self._changed.wait()

    def _match(self, batch: Sequence[Waiting]) -> None:
        try:
            results = match_together(batch[0].served, [one.upload for one in batch])
        except Exception as error:
            if len(batch) > 1:
                # one picture must not spoil the answers of others
                for one in batch:
                    self._match([one])
                return
            batch[0].future.set_exception(error)
            return
        for one, result in zip(batch, results, strict=True):
            if isinstance(result, Match):
                result = replace(result, contributors=result.contributors[: one.top])
            one.future.set_result(result)


def match_together(served: Served, uploads: Sequence[Upload]) -> list[Result]:
    """The match of each picture, or why it cannot be read.

    Raises:
        GMValuatorError: as `GMValuator.value`.
    """
    images = in_memory([upload.content for upload in uploads])
    try:
        valuation = served.matcher.value(images)
    except GMValuatorError:
        if len(uploads) > 1:
            raise
        try:
            _ = images[0]
        except ImageError as error:
            return [Skip(uploads[0].name, str(error).partition(": ")[2])]
        raise
    found = matches_of(valuation, "", len(served.side.ids), ids_by_key=served.ids_by_key)
    by_number: dict[str, Result] = {match.generated_id: match for match in found}
    by_number |= {skip.id: skip for side, skip in valuation.skipped if side == "generated"}
    return [named(by_number[str(number)], upload.name) for number, upload in enumerate(uploads)]


def named(result: Result, name: str) -> Result:
    """A result under the name that the client gave the picture."""
    if isinstance(result, Skip):
        return Skip(name, result.reason)
    return replace(result, source=name, generated_id=name)
