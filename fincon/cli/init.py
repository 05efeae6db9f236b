"""``fincon init``: the files that a deployment needs, written into a folder of the user's own."""

from pathlib import Path
from string import Template

import click

from fincon.cli.options import command, echo_status
from fincon.errors import RunFailed, reason_of
from fincon.settings import fincon_version

TEMPLATES = Path(__file__).parent / "templates"


@command("fincon init", "fincon init /srv/fincon --systemd --docker")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option(
    "--systemd", is_flag=True, help="A unit for systemd as well, that keeps `fincon serve` running."
)
@click.option("--docker", is_flag=True, help="A Dockerfile as well, that installs fincon and serves.")
def init(folder: Path, *, systemd: bool, docker: bool) -> None:
    """Write prefect.yaml, with the schedules, and .env.example, with the settings, into FOLDER. Nothing is overwritten."""
    folder = folder.resolve()
    files = {
        "prefect.yaml": _schedules(folder),
        ".env.example": _filled("env.example", folder),
        "fincon.service": _filled("fincon.service", folder) if systemd else "",
        "Dockerfile": _filled("Dockerfile", folder) if docker else "",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if not text:
                continue
            if (folder / name).exists():
                echo_status(f"{name} is there already, and stays as it is.")
                continue
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(folder / name)
    except OSError as error:
        raise RunFailed(f"{folder} cannot be written: {reason_of(error)}.", "Name another folder.") from error
    echo_status("Next: cp .env.example .env, fill it in, then: set -a; . ./.env; set +a; fincon serve")


def _schedules(folder: Path) -> str:
    """Return the schedules, with a tag of this lake's own beside fincon's."""
    text = (TEMPLATES / "prefect.yaml").read_text(encoding="utf-8")
    return text.replace("tags: [fincon]", f'tags: [fincon, "lake:{folder.name}"]', 1)


def _filled(name: str, folder: Path) -> str:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    return Template(text).safe_substitute(folder=folder, version=fincon_version())
