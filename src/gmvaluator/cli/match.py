"""What `gmvaluator match` prints of a picture."""

from __future__ import annotations

from gmvaluator.cli.printing import table
from gmvaluator.runs.matches import Match


def match_text(match: Match) -> str:
    """A picture and its contributors, for a terminal."""
    tested = "not tested" if match.match_p is None else f"{match.match_p:.4g}"
    copies = f"; copy of {', '.join(match.copy_of)}" if match.copy_of else ""
    rows = [
        (line.train_id, f"{line.distance:.4f}", f"{100 * line.score:.3f} %")
        for line in match.contributors
    ]
    columns = ("training image", "distance", "score")
    return (
        f"{match.source}: {match.generated_id}\n"
        f"quality {match.quality:.4g}; p-value of the match {tested}{copies}\n"
        f"{table(columns, rows, left=columns[:1])}"
    )
