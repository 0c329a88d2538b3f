"""Phases of operations from a table of videos: settings are written, then the program runs.

``python -m examples.surgical_phase.train --csv_path phases.csv --data_dir videos``
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from sr_trainer.main import main as run
from toolbox.config import write_yaml
from toolbox.io.atomic import replacing

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_PATH = click.Path(path_type=Path)


@click.command(help=(__doc__ or "").split("\n", 1)[0])
@click.option("--csv_path", type=_EXISTING, required=True, help="table of videos and phases")
@click.option(
    "--output_pth",
    type=_PATH,
    default="model.ckpt",
    show_default=True,
    help="where the best weights are copied to",
)
@click.option("--batch_size", default=8, show_default=True, help="examples in a batch")
@click.option("--num_workers", default=4, show_default=True, help="threads that decode")
@click.option("--data_dir", type=_FOLDER, help="folder of the videos  [default: that of the table]")
@click.option("--mask_dir", type=_FOLDER, help="folder of the masks, if there are")
@click.option("--log_dir", type=_PATH, help="log folder  [default: NAME_log beside the table]")
@click.option("--epochs", default=100, show_default=True, help="epochs in all")
@click.option("--lr", default=1e-4, show_default=True, help="learning rate")
@click.option("--size", default=224, show_default=True, help="side of the images")
@click.option("--window_size", default=16, show_default=True, help="frames in a window")
@click.option("--stride", default=8, show_default=True, help="frames from window to window")
@click.option("--max_frames", default=64, show_default=True, help="frames used of a segment")
@click.option("--backbone", default="maxvit_large", show_default=True, help="see the guide")
@click.option("--backbone_weights", help="file of pretrained weights, or imagenet")
@click.option("--seed", default=0, show_default=True, help="seed of all that is drawn")
@click.option("--overwrite", is_flag=True, help="replace an older run")
@click.option("--resume", is_flag=True, help="go on with an interrupted run")
def train(**given: Any) -> None:
    """Write the settings beside the log folder, train, and copy the best weights."""
    table: Path = given["csv_path"]
    log = given["log_dir"] or table.with_name(f"{table.stem}_log")
    file = log.with_name(f"{log.name.removesuffix('_log')}.yml")
    settings = _settings(given, log)
    if given["overwrite"] and given["resume"]:
        raise click.UsageError("--overwrite and --resume exclude each other; name one.")
    if file.exists() and not (given["overwrite"] or given["resume"]):
        raise click.UsageError(
            f"{file} is there already. Replace it with --overwrite, go on with --resume, or name "
            f"another --log_dir."
        )
    former = file.read_bytes() if file.exists() else None
    write_yaml(settings, file, "Written by examples.surgical_phase.train")
    click.echo(f"settings: {file}")
    options = [f"--{name}" for name in ("overwrite", "resume") if given[name]]
    if code := run([str(file), "train", *options]):
        _restore(file, former, log)
        raise SystemExit(code)
    output: Path = given["output_pth"]
    with replacing(output) as beside:
        shutil.copyfile(log / "weights_best.h5", beside)
    click.echo(f"best weights: {output}; use them with python main.py {log} predict VIDEO")


def _restore(file: Path, former: bytes | None, log: Path) -> None:
    """Take back what was written for a run that did not start, or that went wrong."""
    if former is not None:
        with replacing(file) as beside:
            beside.write_bytes(former)
    elif not log.exists():
        file.unlink()


def _settings(given: dict[str, Any], log: Path) -> dict[str, Any]:
    """Return what the file of settings says."""
    section = {
        "csv_path": str(given["csv_path"]),
        "num_workers": given["num_workers"],
        **{key: given[key] for key in ("size", "window_size", "stride", "max_frames")},
    }
    network = {"backbone": given["backbone"]}
    if given["mask_dir"] is not None:
        section["mask_dir"] = str(given["mask_dir"])
    if given["backbone_weights"] is not None:
        network["backbone_weights"] = given["backbone_weights"]
    return {
        "data_dir": str(given["data_dir"] or given["csv_path"].parent),
        "task": "surgical_phase",
        "surgical_video": section,
        "surgical_phase": network,
        "learning_rate": given["lr"],
        **{key: given[key] for key in ("batch_size", "epochs", "seed")},
        "log_dir": str(log),
    }


if __name__ == "__main__":
    train()
