"""The program: settings, TensorFlow, data, model, then training, testing or use."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sr_trainer.arg_parser import ArgParser
from sr_trainer.initializer import Initializer
from toolbox.errors import program


class Main:
    """Runs super-resolution: training, testing, prediction, export.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        self.arguments = arguments

    def run(self) -> None:
        """Read the command line and the settings, then train, test, predict or export."""
        parser = ArgParser(self.arguments)
        # The settings of a model are the arguments of its class, so TensorFlow comes first.
        Initializer.tf_init()
        if parser.get_mode() in ("predict", "export"):
            self._use(parser)
        else:
            self._learn(parser)

    def _learn(self, parser: ArgParser) -> None:
        from toolbox.settings import UserParams

        u_params = UserParams(parser.get_fname(), model=parser.args.algo)
        Initializer.tf_init(seed=u_params.seed)
        if parser.get_mode() == "test":
            from sr_trainer.tester import Tester

            Tester(u_params).test()
            return
        from sr_trainer.modeler import Modeler
        from sr_trainer.trainer import Trainer

        resume = parser.args.resume or (u_params.resume and not parser.args.overwrite)
        trainer = Trainer(u_params, overwrite=parser.args.overwrite, resume=resume)
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

            # The weights are float32 whatever precision they were trained with.
            run = Run.open(source, {"weights": ()}, precision="float32")
            Exporter(run, args.overwrite).export(args.format, args.output)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    Main(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
