"""The program: settings, TensorFlow, data, model, then training, testing or use."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from toolbox import __version__
from toolbox.errors import ConfigError, program

# Import nothing else here: --version and doctor must also work where a package is missing.
if TYPE_CHECKING:
    from sr_trainer.arg_parser import ArgParser
    from toolbox.settings import UserParams


class Main:
    """The program: trains, tests, predicts, exports, inspects, measures, examines the installation.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        self.arguments = arguments

    def run(self) -> None:
        """Read the command line and the settings, then run the mode."""
        _, given = argparse.ArgumentParser(add_help=False).parse_known_args(self.arguments)
        if given == ["--version"]:
            print(f"sr-toolbox {__version__}")
            return
        if given == ["doctor"]:
            self._examine()
        from sr_trainer.arg_parser import ArgParser
        from sr_trainer.initializer import Initializer

        parser = ArgParser(self.arguments)
        if parser.get_mode() == "doctor":  # with an option that has no effect
            self._examine()
        if parser.get_mode() == "inspect":
            self._inspect(parser)
            return
        if parser.get_mode() == "measure":
            self._measure(parser)
            return
        # The settings of a model are the arguments of its class, which needs TensorFlow.
        Initializer.tf_init()
        if parser.get_mode() in ("predict", "export"):
            self._use(parser)
        else:
            self._learn(parser)

    def _examine(self) -> NoReturn:
        from sr_trainer.doctor import main as examine

        raise SystemExit(examine())

    def _inspect(self, parser: ArgParser) -> None:
        from sr_trainer.inspector import Inspector, open_inspector

        args = parser.args
        files = open_inspector(args.pretrained or args.yml_fname, parser.settings())
        Inspector(files, args.overwrite).inspect(args.input, args.output)

    def _measure(self, parser: ArgParser) -> None:
        from sr_trainer.measurer import Measurer
        from toolbox.config import COMMAND_LINE, check
        from toolbox.task import measuring_task

        args, task = parser.args, measuring_task()
        settings = check(task.measure_options, parser.settings(), COMMAND_LINE)
        Measurer(task.measurer(settings), args.overwrite).measure(args.input, args.output)

    def _learn(self, parser: ArgParser) -> None:
        from sr_trainer.initializer import Initializer
        from toolbox.settings import UserParams, distribution_of

        args = parser.args
        if args.mode == "train":
            from sr_trainer.launch import follow_launcher
            from toolbox.training.distribution import open_distribution

            follow_launcher()
            open_distribution(args.distribution or distribution_of(args.yml_fname), args.yml_fname)
        u_params = UserParams(parser.get_fname(), model=args.algo, distribution=args.distribution)
        if parser.get_mode() == "test":
            from sr_trainer.tester import Tester

            Initializer.tf_init(seed=u_params.seed)
            Tester(u_params).test()
            return
        runs = self._runs(u_params) if args.baselines else [u_params]
        for run in runs:
            if run is not u_params:
                print(f"\nbaseline {Path(run.log_dir).name}", flush=True)
            self._train(run, args.overwrite, args.resume)

    def _runs(self, u_params: UserParams) -> list[UserParams]:
        """Return the settings of the run and of its baselines."""
        from toolbox.task import BASELINES, open_task

        plain = open_task(u_params.task).baselines(u_params)
        if not plain:
            raise ConfigError(
                f"{u_params.fname}: --baselines needs a task that compares its network with plain "
                f"ones; task {u_params.task} has none for model {u_params.model}. Leave out "
                f"--baselines."
            )
        beside = Path(u_params.log_dir, BASELINES)
        option = " --baselines"
        others = [u_params.variant(c, beside / name, option) for name, c in plain.items()]
        u_params.further_options = option
        return [u_params, *others]

    def _train(self, u_params: UserParams, overwrite: bool, resume: bool) -> None:
        from sr_trainer.initializer import Initializer
        from sr_trainer.modeler import Modeler
        from sr_trainer.trainer import Trainer, command_of
        from toolbox.training.distribution import open_distribution

        spread = open_distribution(u_params.distribution, u_params.fname)
        with spread.watching(command_of(u_params)):
            spread.share_seed(u_params)
            Initializer.tf_init(seed=u_params.seed)
            resume = resume or (u_params.resume and not overwrite)
            trainer = Trainer(u_params, overwrite=overwrite, resume=resume)
            limits = trainer.normalizer.max_val, trainer.normalizer.min_val
            modeler = Modeler(u_params, *limits, trainer.steps_per_epoch, trainer.facts)
            trainer.train(modeler.build())

    def _use(self, parser: ArgParser) -> None:
        from toolbox.run import Run

        args = parser.args
        source = args.pretrained or parser.get_fname()
        if parser.get_mode() == "predict":
            from sr_trainer.predictor import Predictor

            run = Run.open(source, parser.settings())
            Predictor(run, args.overwrite).predict(args.input, args.output)
        else:
            from sr_trainer.exporter import Exporter

            # Weights are float32 whatever precision they were trained with.
            run = Run.open(source, {"weights": ()}, precision="float32")
            Exporter(run, args.overwrite).export(args.format, args.output)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    Main(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
