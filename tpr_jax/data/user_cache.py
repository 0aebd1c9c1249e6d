"""Where things are kept that any run of this user would make again.

`TPR_JAX_CACHE` names the folder, or is "off"; else it is tpr_jax in the user's folder
for caches (`XDG_CACHE_HOME`, ~/.cache). What lies there can be deleted at any time.
"""

import os
import pathlib
from collections.abc import Mapping

NAME, OFF = "TPR_JAX_CACHE", "off"


def folder(
  kind: str, environment: Mapping[str, str] = os.environ
) -> pathlib.Path | None:
  """The folder for one kind of things, which may not exist yet; None: none is kept."""
  given = environment.get(NAME, "")
  if given == OFF:
    return None
  if given:
    return pathlib.Path(given).expanduser() / kind
  if base := environment.get("XDG_CACHE_HOME"):
    return pathlib.Path(base) / "tpr_jax" / kind
  try:
    home = pathlib.Path.home()
  except RuntimeError:  # a user without any
    return None
  return home / ".cache" / "tpr_jax" / kind
