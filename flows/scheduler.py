"""Keep the schedules of prefect.yaml without Prefect: each run is a `fincon` command, started when it is due."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import yaml
from cronsim import CronSim, CronSimError

from fincon.errors import FinconError, UsageError
from fincon.settings import alert_urls, environment
from fincon.storage.data_folder import UNREADABLE, atomic_write

BLOCKS = ("key_block", "pii_key_block", "s3_block")
"""Parameters of a flow that name Secret blocks of a Prefect server: a command has what they hold in its environment."""

OF_SERVE = ("retries", "retry_seconds", *BLOCKS)
"""Parameters of a flow that no command has: `fincon serve` does what they say itself."""

NEGATED = ("accounts",)
"""Options that are on unless they are named with ``--no-``."""

STOP_SECONDS = 60.0
"""How long a run has to stop that is in progress when `fincon serve` is ended."""


@dataclass(frozen=True, eq=False)
class Deployment:
    """Hold a deployment of prefect.yaml: ``flow`` with ``parameters``, by ``crons`` or ``after`` another deployment."""

    name: str
    entrypoint: str
    crons: tuple[tuple[str, str], ...] = ()
    """Its cron lines, each with its time zone."""
    after: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after_failure: bool = False
    """It comes after a run of the other that failed, too."""

    @property
    def flow(self) -> str:
        """Name the flow, which is called like the command: ``flows/sync.py:sync`` and ``fincon.flows.sync.sync`` alike."""
        return re.split("[:.]", self.entrypoint)[-1]

    def next_after(self, now: datetime) -> datetime:
        """Return when it is due next."""
        return min(
            next(CronSim(cron, now.astimezone(ZoneInfo(zone)))).astimezone(UTC) for cron, zone in self.crons
        )


def read(path: Path) -> list[Deployment]:
    """Read the deployments of a prefect.yaml.

    Raises:
        UsageError: it cannot be read, or schedules otherwise than by cron lines or after another deployment.
    """
    try:
        found = [
            _deployment(spec) for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
        ]
        _refuse_unknown(found)
    except (
        OSError,
        yaml.YAMLError,
        KeyError,
        TypeError,
        AttributeError,
        CronSimError,
        ZoneInfoNotFoundError,
    ) as error:
        raise UsageError(
            f"The schedules in {path} cannot be read: {type(error).__name__}: {error}",
            "A deployment has a name, an entrypoint, and cron schedules or a trigger after another's run.",
        ) from error
    return found


def _refuse_unknown(deployments: Sequence[Deployment]) -> None:
    names = {"", *(deployment.name for deployment in deployments)}
    for one in deployments:
        if one.after not in names:
            raise KeyError(f"{one.name} comes after {one.after}, which is no deployment here")


def _deployment(spec: Mapping[str, Any]) -> Deployment:
    name = spec["name"]
    schedules = spec.get("schedules") or ([spec["schedule"]] if spec.get("schedule") else [])
    triggers = spec.get("triggers") or []
    if not schedules and not triggers:
        raise KeyError(f"{name} has neither cron nor trigger")
    crons = tuple(
        (_cron(name, schedule), schedule.get("timezone", "UTC"))
        for schedule in schedules
        if schedule.get("active", True)
    )
    trigger: Mapping[str, Any] = next((one for one in triggers if one.get("enabled", True)), {})
    found = Deployment(
        name,
        spec["entrypoint"],
        crons,
        after=_after(name, trigger) if trigger else "",
        parameters=spec.get("parameters") or {},
        after_failure="prefect.flow-run.Failed" in (trigger.get("expect") or ()),
    )
    if crons:
        found.next_after(datetime.now(UTC))
    return found


def _cron(name: str, schedule: Mapping[str, Any]) -> str:
    if "cron" not in schedule:
        raise KeyError(
            f"{name} has a schedule without cron: {', '.join(schedule)} is not kept without a server"
        )
    return str(schedule["cron"])


def _after(name: str, trigger: Mapping[str, Any]) -> str:
    """Return the deployment after whose runs a trigger fires."""
    related = trigger.get("match_related") or {}
    for one in related if isinstance(related, list) else [related]:
        if one.get("prefect.resource.role", "deployment") == "deployment" and "prefect.resource.name" in one:
            return str(one["prefect.resource.name"])
    raise KeyError(f"{name} has a trigger that names no deployment")


def when(deployment: Deployment) -> str:
    """Say when a deployment runs, for a person."""
    times = [f"{cron} ({zone})" for cron, zone in deployment.crons]
    if deployment.after:
        times.append(f"after {deployment.after}" + (", failed or not" if deployment.after_failure else ""))
    return "; ".join(times) or "never: it is not active"


def command_line(deployment: Deployment) -> list[str]:
    """Return the arguments of `fincon` that do what the deployment's flow does with its parameters."""
    words = [deployment.flow]
    for name, value in deployment.parameters.items():
        if name not in OF_SERVE:
            words += _option(name.replace("_", "-"), value)
    return words


def _option(name: str, value: object) -> Iterator[str]:
    """Yield what an option is on a command line; nothing where it is as if it was not given."""
    if value is True:
        yield f"--{name}"
    elif value is False:
        if name in NEGATED:
            yield f"--no-{name}"
    elif isinstance(value, list):
        for one in value:
            yield from (f"--{name}", str(one))
    elif value is not None:
        yield from (f"--{name}", str(value))


@dataclass(frozen=True, kw_only=True)
class Served:
    """What `fincon serve` runs deployments with."""

    more: Sequence[str]
    """Further arguments of each command."""
    say: Callable[[str], object]
    begun: Path
    """The file that remembers when each deployment was begun last."""
    secrets: Callable[[Deployment], Mapping[str, str]] = lambda deployment: {}
    """Further variables of the environment of each command."""


def run_when_due(deployments: Sequence[Deployment], served: Served) -> None:
    """Start each deployment's command when it is due, one at a time; never returns.

    What is due while another runs comes after it, once; so does what was missed while nobody served. A command that fails
    says so itself; the next goes on.
    """
    now = datetime.now(UTC)
    begun = _read_begun(served.begun)
    due = {d: d.next_after(now) for d in deployments if d.crons}
    for deployment in due:
        last = begun.get(deployment.name)
        if last and deployment.next_after(last) < now:
            served.say(f"{deployment.name}: a run was missed; it is made up for now")
            due[deployment] = now
    while due:
        chosen = min(due, key=lambda d: due[d])
        while (left := (due[chosen] - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(left, 60.0))  # in steps, so that a clock that was set is seen
        begun[chosen.name] = datetime.now(UTC)
        with atomic_write(served.begun) as part:
            part.write_bytes(msgspec.json.encode(begun))
        _run_with_those_after(chosen, deployments, served)
        due[chosen] = chosen.next_after(datetime.now(UTC))


def _read_begun(path: Path) -> dict[str, datetime]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, datetime])
    except UNREADABLE:
        return {}


def _run_with_those_after(first: Deployment, deployments: Sequence[Deployment], served: Served) -> None:
    succeeded = _run_with_retries(first, served)
    for deployment in deployments:
        if deployment.after == first.name and (succeeded or deployment.after_failure):
            _run_with_those_after(deployment, deployments, served)


def _run_with_retries(deployment: Deployment, served: Served) -> bool:
    """Run until it succeeds, as often as its parameter ``retries`` says; return whether it did."""
    retries, pause = (deployment.parameters.get(name) or 0 for name in ("retries", "retry_seconds"))
    for again in range(int(retries) + 1):
        if again:
            served.say(f"{deployment.name}: tried again in {pause} s")
            time.sleep(float(pause))
        code = _run(deployment, served)
        if code != 1:  # what is wrong with settings, or who holds the folder, does not pass by itself
            return code == 0
    return False


def _run(deployment: Deployment, served: Served) -> int:
    """Run once, as a process of its own; return its exit code. Whatever ends this process stops it cleanly first."""
    if deployment.flow == "alert" and not alert_urls():
        served.say(f"{deployment.name}: nobody to tell, for FINCON_ALERT_URLS is not set")
        return 0
    began = time.monotonic()
    arguments = [*command_line(deployment), *served.more]
    served.say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {deployment.name}: fincon {' '.join(arguments)}")
    # -P: what lies in the folder that it is started from is nobody's module, whatever its name.
    command = [sys.executable, "-P", "-m", "fincon.cli", *arguments]
    try:
        secrets = served.secrets(deployment)
    except FinconError as error:
        served.say(f"{deployment.name} was not begun: {error} {error.hint}")
        return error.exit_code
    process = subprocess.Popen(command, env=environment(secrets))  # noqa: S603 - our own command
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait(STOP_SECONDS)
        raise
    said = "skipped: another run holds the data folder" if code == 4 else f"ended with {code}"
    served.say(f"{deployment.name} {said} after {time.monotonic() - began:.0f} s")
    return code
