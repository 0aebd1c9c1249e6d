"""A detector from an .onnx file, run by onnxruntime on the processor.

Which boxes its outputs hold, layouts.py tells; what it sees of a frame, inputs.py.
Names of classes come from the file's metadata (`names`, a dictionary, as YOLO's exports
write it) or from transformers' config.json beside it; the size from the graph, from
the metadata (`imgsz`), or from --detect_size.
"""

import ast
import json
import pathlib
from typing import Any

import numpy as np

from tpr_jax.detect import inputs, layouts
from tpr_jax.detect.place import beside, people
from tpr_jax.detect.problems import DetectorError
from tpr_jax.detect.wanted import Wanted

INSTALL = 'pip install "tpr_jax[detect]"'
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def load(wanted: Wanted) -> "OnnxDetector":
  """Raises DetectorError: onnxruntime is missing, or it is no detector it can run."""
  try:
    import onnxruntime
  except ImportError as error:
    raise DetectorError(
      f"--detect={wanted.place} needs onnxruntime, which is not installed: {INSTALL}"
      f" ({error})"
    ) from error
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # warnings are about graphs that others have made
  try:
    session = onnxruntime.InferenceSession(
      str(wanted.place), options, providers=["CPUExecutionProvider"]
    )
  except Exception as error:  # onnxruntime's own have no common class
    raise DetectorError(
      f"--detect={wanted.place} is no ONNX model that onnxruntime can run: {error}"
    ) from error
  return OnnxDetector(session, wanted)


class OnnxDetector:
  """A `place.Detector`.

  Args:
    session: onnxruntime's.

  Raises:
    DetectorError: its inputs, outputs, classes or size are not understood.
  """

  def __init__(self, session: Any, wanted: Wanted):
    self._session, self._wanted = session, wanted
    self._inputs = {each.name: each for each in session.get_inputs()}
    self._outputs = [each.name for each in session.get_outputs()]
    self._metadata = session.get_modelmeta().custom_metadata_map
    self._files = beside(wanted.place)
    self._image = self._image_input()
    self._names = self._class_names()
    self._classes = len(self._names) or None
    self._processor, self._size = None, self._input_size()
    self.layout = self._layout()
    self._people = people(self._names, wanted)
    self._check_people()

  def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = self._seen(pixels, self.layout)
    outputs = self._run(seen, pixels.shape[:2])
    corners, scores = layouts.read(
      self.layout,
      outputs,
      self._people,
      self._classes,
      seen.pixels.shape[2:],
      self._wanted.score,
    )
    in_frame = corners if self.layout == "dfine" else seen.in_frame(corners)
    return in_frame, scores

  # --- what it sees ---------------------------------------------------------------

  def _seen(self, pixels: np.ndarray, layout: str) -> inputs.Seen:
    if layout == "detr":
      return self._processor(pixels, self._size)
    if layout == "torchvision" and self._size is None:
      return inputs.plain(pixels)
    if layout in ("torchvision", "dfine"):
      return inputs.stretched(pixels, self._size)
    return inputs.letterbox(pixels, self._size)

  def _run(self, seen: inputs.Seen, frame: tuple[int, int]) -> layouts.Outputs:
    """frame: (h, w), which D-FINE's own exports are told."""
    given = seen.pixels[0] if len(self._image.shape) == 3 else seen.pixels
    feeds = {self._image.name: given.astype(_FLOATS[self._image.type])}
    if "orig_target_sizes" in self._inputs:
      feeds["orig_target_sizes"] = np.array([frame[::-1]], np.int64)
    if "pixel_mask" in self._inputs:
      shape = self._inputs["pixel_mask"].shape
      fixed = all(isinstance(each, int) for each in shape)
      whole = shape if fixed else (1, *seen.pixels.shape[2:])
      feeds["pixel_mask"] = np.ones(whole, np.int64)
    try:
      found = self._session.run(self._outputs, feeds)
    except Exception as error:  # onnxruntime's own have no common class
      raise DetectorError(
        f"{self._wanted.place} failed on a picture of {given.shape[-1]} x"
        f" {given.shape[-2]} pixels: {error}"
      ) from error
    return dict(zip(self._outputs, found, strict=True))

  # --- what it is -----------------------------------------------------------------

  def _image_input(self) -> Any:
    known = ("orig_target_sizes", "pixel_mask")
    images = [each for each in self._inputs.values() if each.name not in known]
    if len(images) == 1 and images[0].type in _FLOATS:
      shape = images[0].shape
      if len(shape) in (3, 4) and (shape[-3] == 3 or not isinstance(shape[-3], int)):
        return images[0]
    told = ", ".join(f"{e.name} {e.type} {e.shape}" for e in self._inputs.values())
    raise DetectorError(
      f"{self._wanted.place}: found the inputs {told}; expected one picture, float32 or"
      " float16 [1, 3, H, W] or [3, H, W], with at most pixel_mask or orig_target_sizes"
      " beside it"
    )

  def _input_size(self) -> tuple[int, int] | None:
    """(H, W) by the graph, the metadata or --detect_size; None: any."""
    graph = tuple(self._image.shape[-2:])
    asked = self._wanted.size
    if all(isinstance(each, int) and each > 0 for each in graph):
      if asked not in (None, graph):
        raise DetectorError(
          f"--detect_size={asked[0]}x{asked[1]}: {self._wanted.place} takes pictures of"
          f" {graph[0]} x {graph[1]} (height x width) and no others"
        )
      return graph
    if asked is not None or "imgsz" not in self._metadata:
      return asked
    said = self._literal("imgsz")
    sides = said if isinstance(said, (list, tuple)) else [said, said]
    if len(sides) == 2 and all(isinstance(each, int) and each > 0 for each in sides):
      return tuple(sides)
    raise DetectorError(
      f"{self._wanted.place}: its metadata says imgsz={said!r}, expected two sides;"
      " give --detect_size=HEIGHTxWIDTH"
    )

  def _class_names(self) -> dict[int, str]:
    if "names" in self._metadata:
      said = self._literal("names")
      named = dict(enumerate(said)) if isinstance(said, (list, tuple)) else said
      if isinstance(named, dict) and all(str(at).isdigit() for at in named):
        return {int(at): str(name) for at, name in named.items()}
      raise DetectorError(
        f"{self._wanted.place}: its metadata says names={said!r:.80}, expected a"
        " dictionary of numbers and names"
      )
    said = self._json("config.json").get("id2label") or {}
    return {int(at): str(name) for at, name in said.items()}

  def _literal(self, key: str) -> Any:
    """Metadata are texts; those of YOLO hold Python's literals."""
    try:
      return ast.literal_eval(self._metadata[key])
    except (ValueError, SyntaxError) as error:
      raise DetectorError(
        f"{self._wanted.place}: its metadata say {key}={self._metadata[key]!r:.80},"
        " which cannot be read"
      ) from error

  def _json(self, name: str) -> dict[str, Any]:
    path: pathlib.Path | None = self._files.get(name)
    if path is None:
      return {}
    try:
      found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
      raise DetectorError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
      raise DetectorError(f"{path}: expected a JSON object")
    return found

  def _layout(self) -> str:
    """By one run on gray: shapes of graphs may be open until then."""
    if {"logits", "pred_boxes"} <= set(self._outputs):
      self._processor = self._transformers_processor()
      layout = "detr"
    elif self._size is None and len(self._outputs) == 1:
      raise DetectorError(
        f"{self._wanted.place} takes pictures of any size and does not say which it was"
        " trained with: give --detect_size=HEIGHTxWIDTH, for example 640x640"
      )
    elif self._size is None and "orig_target_sizes" in self._inputs:
      raise DetectorError(
        f"{self._wanted.place} takes pictures of any size; give"
        " --detect_size=HEIGHTxWIDTH, as it was trained: usually 640x640"
      )
    else:
      layout = "torchvision" if self._size is None else "dfine"
    high, wide = self._size or (256, 256)
    gray = np.full((high, wide, 3), 114, np.uint8)
    outputs = self._run(self._seen(gray, layout), (high, wide))
    try:
      return layouts.name(list(self._inputs), outputs, self._classes)
    except DetectorError as error:
      raise DetectorError(f"--detect={self._wanted.place}: {error}") from error

  def _transformers_processor(self) -> inputs.Processor:
    name = "preprocessor_config.json"
    if name not in self._files or "config.json" not in self._files:
      raise DetectorError(
        f"--detect={self._wanted.place} is an export of transformers (logits,"
        f" pred_boxes), whose classes and pixels only config.json and {name} tell: put"
        " both into its folder (or the folder above, if its own is called onnx)"
      )
    return inputs.Processor.of(self._json(name), str(self._files[name]))

  def _check_people(self) -> None:
    if self.layout == "detr" and max(self._people) >= self._classes:
      raise DetectorError(
        f"{self._wanted.place}: its config.json has {self._classes} classes, and no"
        f" number {max(self._people)}"
      )
