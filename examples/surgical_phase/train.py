"""Train on a table of videos and phases: write the settings file, then run the program.

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
    help="file to which the best weights are copied",
)
@click.option("--batch_size", default=8, show_default=True, help="examples in a batch")
@click.option("--num_workers", default=4, show_default=True, help="decoding threads")
@click.option("--data_dir", type=_FOLDER, help="folder of the videos  [default: that of the table]")
@click.option("--mask_dir", type=_FOLDER, help="folder of the masks, if there are any")
@click.option("--log_dir", type=_PATH, help="log folder  [default: NAME_log next to the table]")
@click.option("--epochs", default=100, show_default=True, help="total number of epochs")
@click.option("--lr", default=1e-4, show_default=True, help="learning rate")
@click.option("--size", default=224, show_default=True, help="side of the images")
@click.option("--window_size", default=16, show_default=True, help="frames in a window")
@click.option("--stride", default=8, show_default=True, help="frames from window to window")
@click.option("--max_frames", default=64, show_default=True, help="most frames used per segment")
@click.option("--backbone", default="maxvit_large", show_default=True, help="image network")
@click.option("--backbone_weights", help="file of pretrained weights, or imagenet")
@click.option("--seed", default=0, show_default=True, help="seed of all random choices")
@click.option("--overwrite", is_flag=True, help="replace an older run")
@click.option("--resume", is_flag=True, help="resume an interrupted run")
def train(**given: Any) -> None:
    """Write the settings next to the log folder, train, and copy the best weights."""
    table: Path = given["csv_path"]
    log = given["log_dir"] or table.with_name(f"{table.stem}_log")
    file = log.with_name(f"{log.name.removesuffix('_log')}.yml")
    settings = _settings(given, log)
    if given["overwrite"] and given["resume"]:
        raise click.UsageError("--overwrite and --resume exclude each other. Use one of them.")
    if file.exists() and not (given["overwrite"] or given["resume"]):
        raise click.UsageError(
            f"{file} already exists. Replace it with --overwrite, resume with --resume, or choose "
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
    """Restore the former settings file after a run that failed; without a log, remove it."""
    if former is not None:
        with replacing(file) as beside:
            beside.write_bytes(former)
    elif not log.exists():
        file.unlink()


def _settings(given: dict[str, Any], log: Path) -> dict[str, Any]:
    """Return the content of the settings file."""
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
