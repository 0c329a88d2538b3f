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
        from sr_trainer.user_params import UserParams

        u_params = UserParams(parser.get_fname(), model=parser.args.algo)
        Initializer.tf_init(seed=u_params.seed)
        from sr_trainer.modeler import Modeler
        from sr_trainer.testers import open_tester
        from sr_trainer.trainer import Trainer

        if parser.get_mode() == "train":
            resume = parser.args.resume or (u_params.resume and not parser.args.overwrite)
            trainer = Trainer(u_params, overwrite=parser.args.overwrite, resume=resume)
            normalizer, steps = trainer.normalizer, trainer.steps_per_epoch
            modeler = Modeler(
                u_params, normalizer.max_val, normalizer.min_val, steps, trainer.pixel_nm
            )
            trainer.train(modeler.build())
        else:
            tester = open_tester(u_params)
            normalizer = tester.normalizer
            model = Modeler(u_params, normalizer.max_val, normalizer.min_val).build(verbose=0)
            tester.test(model)

    def _use(self, parser: ArgParser) -> None:
        from sr_trainer.exporter import Exporter
        from sr_trainer.predictor import Predictor
        from sr_trainer.sem_predictor import SemPredictor
        from sr_trainer.trained import open_trained

        args = parser.args
        source = args.pretrained or parser.get_fname()
        if parser.get_mode() == "predict":
            resolver, settings = open_trained(source, parser.settings())
            kind = SemPredictor if resolver.config.get("source") == "sem" else Predictor
            kind(resolver, settings, args.overwrite).predict(args.input, args.output)
        else:
            # The weights are float32 whatever precision they were trained with.
            resolver, _ = open_trained(source, {"weights": ()}, precision="float32")
            Exporter(resolver, args.overwrite).export(args.format, args.output)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    Main(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
