"""A detector from a folder that transformers' `save_pretrained` wrote: run by PyTorch.

Everything is the library's own: what the image processor does to a frame, and how the
model's outputs become boxes and scores. Only files of the folder are read, no code of
it is run, and nothing is asked of any hub.
"""

import importlib
from typing import Any

import numpy as np

from tpr_jax.detect.place import people
from tpr_jax.detect.problems import DetectorError
from tpr_jax.detect.wanted import Wanted

INSTALL = 'pip install "tpr_jax[torch]"'


def load(wanted: Wanted) -> "FolderDetector":
  """Raises DetectorError: PyTorch is missing, or the folder holds no detector."""
  if wanted.size is not None:
    raise DetectorError(
      "--detect_size is for .onnx files; of a transformers folder, its own"
      " preprocessor_config.json says the size"
    )
  for name in ("config.json", "preprocessor_config.json"):
    if not (wanted.place / name).is_file():
      raise DetectorError(
        f"--detect={wanted.place}: there is no {name}; expected what save_pretrained of"
        " an object-detection model and of its image processor write into one folder"
      )
  try:
    torch = importlib.import_module("torch")  # never needed by anything else
    from transformers import AutoImageProcessor, AutoModelForObjectDetection
  except ImportError as error:
    raise DetectorError(
      f"--detect={wanted.place} needs PyTorch, which is not installed: {INSTALL}"
      f" ({error})"
    ) from error
  try:
    own = dict(local_files_only=True, trust_remote_code=False)
    processor = AutoImageProcessor.from_pretrained(wanted.place, **own)
    model, told = AutoModelForObjectDetection.from_pretrained(
      wanted.place, output_loading_info=True, **own
    )
  except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
    raise DetectorError(
      f"--detect={wanted.place} is no object detector that transformers can load:"
      f" {error}"
    ) from error
  if lacking := sorted(told["missing_keys"]):
    raise DetectorError(
      f"--detect={wanted.place}: its weights lack {len(lacking):,} arrays of the model,"
      f" for example {lacking[0]}: they would be random"
    )
  if not hasattr(processor, "post_process_object_detection"):
    raise DetectorError(
      f"--detect={wanted.place}: its {type(processor).__name__} makes no boxes"
      " (post_process_object_detection); expected an image processor of a detector"
    )
  return FolderDetector(torch, model.eval(), processor, wanted)


class FolderDetector:
  """A `place.Detector`.

  Raises:
    DetectorError: it has no class of people.
  """

  def __init__(self, torch: Any, model: Any, processor: Any, wanted: Wanted):
    self._torch, self._model, self._processor = torch, model, processor
    names = {int(at): str(name) for at, name in model.config.id2label.items()}
    self._people, self._least = people(names, wanted), wanted.score

  def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    given = self._processor(
      images=pixels, return_tensors="pt", input_data_format="channels_last"
    )
    with self._torch.inference_mode():
      outputs = self._model(**given)
    # The library's threshold drops what is no number without a word: counted here.
    finite = self._torch.isfinite(outputs.logits).all(-1)
    finite &= self._torch.isfinite(outputs.pred_boxes).all(-1)
    bad = int((~finite).sum())
    (found,) = self._processor.post_process_object_detection(
      outputs, threshold=self._least, target_sizes=[pixels.shape[:2]]
    )
    corners, scores, labels = (
      found[key].float().numpy() for key in ("boxes", "scores", "labels")
    )
    kept = np.isin(labels, self._people)
    lost = np.full((bad, 4), np.nan)
    return (
      np.concatenate([corners[kept], lost]),
      np.concatenate([scores[kept], np.full(bad, np.nan)]),
    )
