"""The command line, with filters of 64 records a part: a program for `Several`."""

from absl import app

from tpr_jax import cli, main
from tpr_jax.filter import scoring

if __name__ == "__main__":
  scoring.PART = 64
  app.run(main.main, flags_parser=cli.parse_flags)
