"""Is a Speech Engine server right? The checks of ``speech-engine check``.

`run_checks` calls a running server as the service does and says, check by check, what the
documentation says, what was seen, and a verdict. `speech_engine_local.check.targets` has servers
whose handlers obey commands, so that the deeper checks can run.
"""

from ._check import Check, Verdict
from .report import as_json, as_list, as_table
from .runner import CHECKS, Report, Result, run_checks, select

__all__ = [
    "CHECKS",
    "Check",
    "Report",
    "Result",
    "Verdict",
    "as_json",
    "as_list",
    "as_table",
    "run_checks",
    "select",
]
