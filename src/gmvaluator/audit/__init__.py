"""A run goes in; the generated images that copy training images come out.

`findings`: the audit of a run. `near_copies`: finds copies in any two sets. `calibration`: the
threshold from distances of training images. `alterations`: training images altered on purpose.
`align`: distance of two images after alignment. `evidence`, `pages`: the pages that show them.
"""

from gmvaluator.audit.findings import Audit, audit_run, check_audit_output
from gmvaluator.audit.near_copies import CopyFinder, CopySettings

__all__ = ["Audit", "CopyFinder", "CopySettings", "audit_run", "check_audit_output"]
