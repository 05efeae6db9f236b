"""Keep the schedules of prefect.yaml without Prefect: each run is a `fincon` command, started when it is due."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from cronsim import CronSim, CronSimError

from fincon.errors import UsageError


@dataclass(frozen=True, eq=False)
class Deployment:
    """Hold a deployment of prefect.yaml: ``flow`` with ``parameters``, by ``cron`` or ``after`` another deployment."""

    name: str
    entrypoint: str
    cron: str = ""
    timezone: str = "UTC"
    after: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flow(self) -> str:
        """Name the flow, which is called like the command: ``flows/sync.py:sync`` and ``fincon.flows.sync.sync`` alike."""
        return re.split("[:.]", self.entrypoint)[-1]

    def next_after(self, now: datetime) -> datetime:
        """Return when it is due next."""
        return next(CronSim(self.cron, now.astimezone(ZoneInfo(self.timezone)))).astimezone(UTC)


def read(path: Path) -> list[Deployment]:
    """Read the deployments of a prefect.yaml.

    Raises:
        UsageError: it cannot be read, or schedules otherwise than by one cron line or after another deployment.
    """
    try:
        return [_deployment(spec) for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, CronSimError, ZoneInfoNotFoundError) as error:
        raise UsageError(
            f"The schedules in {path} cannot be read: {type(error).__name__}: {error}",
            "A deployment has a name, an entrypoint, and one cron schedule or one trigger after another's run.",
        ) from error


def _deployment(spec: Mapping[str, Any]) -> Deployment:
    (schedule,) = spec.get("schedules") or [{}]
    (trigger,) = spec.get("triggers") or [{}]
    found = Deployment(
        spec["name"],
        spec["entrypoint"],
        schedule.get("cron", ""),
        schedule.get("timezone", "UTC"),
        trigger.get("match_related", {}).get("prefect.resource.name", ""),
        spec.get("parameters") or {},
    )
    if found.cron:
        found.next_after(datetime.now(UTC))
    elif not found.after:
        raise KeyError(f"{found.name} has neither cron nor trigger")
    return found


def when(deployment: Deployment) -> str:
    """Say when a deployment runs, for a person."""
    return f"{deployment.cron} ({deployment.timezone})" if deployment.cron else f"after {deployment.after}"


def command_line(deployment: Deployment) -> list[str]:
    """Return the arguments of `fincon` that do what the deployment's flow does with its parameters."""
    words = [deployment.flow]
    for name, value in deployment.parameters.items():
        option = name.replace("_", "-")
        if value is True or value is False:
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return words


def run_when_due(
    deployments: Sequence[Deployment], more: Sequence[str], say: Callable[[str], object]
) -> None:
    """Start each deployment's command when it is due, with ``more`` arguments, one at a time; never returns.

    What is due while another runs comes after it, once. A command that fails says so itself; the next goes on.
    """
    now = datetime.now(UTC)
    due = {d: d.next_after(now) for d in deployments if d.cron}
    while True:
        chosen = min(due, key=lambda d: due[d])
        while (left := (due[chosen] - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(left, 60.0))  # in steps, so that a clock that was set is seen
        _run_with_those_after(chosen, deployments, more, say)
        due[chosen] = chosen.next_after(datetime.now(UTC))


def _run_with_those_after(
    first: Deployment, deployments: Sequence[Deployment], more: Sequence[str], say: Callable[[str], object]
) -> None:
    if _run(first, more, say):
        for deployment in deployments:
            if deployment.after == first.name:
                _run_with_those_after(deployment, deployments, more, say)


def _run(deployment: Deployment, more: Sequence[str], say: Callable[[str], object]) -> bool:
    """Run once, as a process of its own; return whether it succeeded."""
    began = time.monotonic()
    arguments = [*command_line(deployment), *more]
    say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {deployment.name}: fincon {' '.join(arguments)}")
    # -P: what lies in the folder that it is started from is nobody's module, whatever its name.
    command = [sys.executable, "-P", "-m", "fincon.cli", *arguments]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - our own command
    say(f"{deployment.name} ended with {code} after {time.monotonic() - began:.0f} s")
    return code == 0
