"""Hypothesis profiles, for every test of the project.

``quick`` is what a developer gets; ``ci`` is longer and always tries the same examples; ``long``
is asked for by hand: ``HYPOTHESIS_PROFILE=long``. ``coverage`` is what `coverage_by_module` takes:
a few examples, always the same.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

# Helpers that assert: their messages shall be as good as those of the tests.
pytest.register_assert_rewrite(
    "tests.counting",
    "tests.examples.program",
    "tests.interop.browsers",
    "tests.interop.callers",
    "tests.interop.diary",
    "tests.interop.programs",
    "tests.interop.visitor",
    "tests.local.memory",
    "tests.proto.cells",
    "tests.proto.corpus",
    "tests.proto.mutants",
    "tests.proto.subject",
    "tests.proto.walk",
    "tests.transports.caller",
    "tests.transports.peer",
    "tests.transports.surface",
)

# Machines share two cores with others: neither a slow example nor a slow start is a failure.
_PATIENT = [HealthCheck.too_slow]

settings.register_profile(
    "quick", max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=_PATIENT
)
settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    print_blob=True,
    deadline=None,
    suppress_health_check=_PATIENT,
)
settings.register_profile(
    "long",
    max_examples=5_000,
    stateful_step_count=80,
    deadline=timedelta(seconds=5),
    suppress_health_check=_PATIENT,
)
settings.register_profile(
    "coverage",
    max_examples=25,
    stateful_step_count=20,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=_PATIENT,
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick")
)
