"""The scenarios notice when a rule is broken.

`MUTANTS=all` plays every mutant, which takes some ten minutes; otherwise it is one for
each alert, and one for each recorded series that an alert is computed from.
"""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from bundle import monitoring
from bundle.mutants import Mutant, mutants, scenario_files, write

if TYPE_CHECKING:
    from pathlib import Path


def chosen() -> list[Mutant]:
    """Return the mutants to play: all, or a few that are the same in every run."""
    every = mutants()
    if os.environ.get("MUTANTS") == "all":
        return every
    # The alerts about days take ten seconds each.
    by_rule: dict[str, list[Mutant]] = {}
    for mutant in every:
        if not any(name.startswith("slo") for name in scenario_files(mutant)):
            by_rule.setdefault(mutant.rule, []).append(mutant)
    pick = random.Random(8)
    return [pick.choice(group) for group in by_rule.values()]


def label(mutant: Mutant) -> str:
    """Return the id of a test."""
    return f"{mutant.rule}: {mutant.change}"


@pytest.mark.long
@pytest.mark.parametrize("mutant", chosen(), ids=label)
def test_broken_rule_fails_a_scenario(mutant: Mutant, tmp_path: Path) -> None:
    """At least one scenario comes out differently."""
    promtool = monitoring.find("promtool")

    survives = all(
        subprocess.run(
            [promtool, "test", "rules", write(mutant, name, tmp_path)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for name in scenario_files(mutant)
    )

    assert not survives


def test_every_rule_has_mutants() -> None:
    """No alert is left out, and each has more than its times to break."""
    counted = {mutant.rule for mutant in mutants()}

    assert len(counted) >= 30
    assert len(mutants()) >= 200


def test_unbroken_rules_pass_as_they_are_written_for_a_mutant(tmp_path: Path) -> None:
    """What fails a mutant is the change, not how its files are written."""
    promtool = monitoring.find("promtool")
    mutant = next(m for m in mutants() if m.rule == "HighRetryRate")
    same = mutant._replace(fields={})

    done = subprocess.run(
        [promtool, "test", "rules", write(same, "retry.yml", tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
