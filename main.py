"""Super-resolution from the command line: ``python main.py input.yml train`` or ``test``."""

from sr_trainer.main import main

if __name__ == "__main__":
    raise SystemExit(main())
