"""The program: settings, TensorFlow, data, model, then training or testing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sr_trainer.arg_parser import ArgParser
from sr_trainer.initializer import Initializer
from toolbox.errors import program


class Main:
    """Runs super-resolution training or testing.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line; default that of the process.
    """

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        self.arguments = arguments

    def run(self) -> None:
        """Read the command line and the settings, then train or test."""
        parser = ArgParser(self.arguments)
        # The settings of a model are the arguments of its class, so TensorFlow comes first.
        Initializer.tf_init()
        from sr_trainer.user_params import UserParams

        u_params = UserParams(parser.get_fname())
        Initializer.tf_init(seed=u_params.seed)
        from sr_trainer.modeler import Modeler
        from sr_trainer.tester import Tester
        from sr_trainer.trainer import Trainer

        if parser.get_mode() == "train":
            resume = parser.args.resume or (u_params.resume and not parser.args.overwrite)
            trainer = Trainer(u_params, overwrite=parser.args.overwrite, resume=resume)
            normalizer, steps = trainer.normalizer, trainer.steps_per_epoch
            model = Modeler(u_params, normalizer.max_val, normalizer.min_val, steps).build()
            trainer.train(model)
        else:
            tester = Tester(u_params)
            normalizer = tester.normalizer
            model = Modeler(u_params, normalizer.max_val, normalizer.min_val).build(verbose=0)
            tester.test(model)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the program."""
    Main(arguments).run()


if __name__ == "__main__":
    sys.exit(main())
