"""--detect and its flags: what is missing or wrong is told before it is loaded."""

import pytest

from tests import command
from tests.detect import scenes
from tpr_jax.detect import wanted
from tpr_jax.detect.problems import DetectorError

YOLO = str(scenes.file())


@pytest.mark.parametrize(
  ("place", "given", "part"),
  [
    ("", {}, "--detect has no value"),
    ("--index=x", {}, "--detect has no value"),
    ("/nowhere.onnx", {}, "no such file or folder.*nothing is downloaded"),
    (__file__, {}, r"suffix '\.py', expected a folder.*onnx"),
    (YOLO, dict(score=0.0), "--detect_score=0: "),
    (YOLO, dict(score=1.0), "--detect_score=1: "),
    (YOLO, dict(height=0), "--detect_height=0"),
    (YOLO, dict(margin=-0.1), "--detect_margin=-0.1"),
    (YOLO, dict(margin=1.5), "--detect_margin=1.5"),
    (YOLO, dict(person=" "), "--detect_class is empty"),
    (YOLO, dict(size="640"), "--detect_size=640: expected HEIGHTxWIDTH"),
    (YOLO, dict(size="640x99999"), "up to 4,096"),
  ],
)
def test_what_is_wrong_is_told(place, given, part):
  with pytest.raises(DetectorError, match=part):
    wanted.wanted(place, **given)


def test_what_is_asked_for_is_kept():
  asked = wanted.wanted(YOLO, score=0.3, height=80, margin=0.1, size="320x640")
  assert asked.size == (320, 640)
  assert asked.settings() == {
    **dict(score=0.3, height=80, margin=0.1, size=[320, 640]),
    "class": "person",
  }


@pytest.mark.parametrize(
  ("flags", "part"),
  [
    (["--detect="], "--detect has no value: give a detector's weights"),
    (["--detect_height=9"], "--detect_height is for --detect=DETECTOR"),
    (["--detect=/nowhere"], "there is no such file or folder"),
  ],
)
def test_on_the_command_line(tmp_path, flags, part):
  (tmp_path / "images").mkdir()
  given = ("--mode=index", "--run=x", "--images=images", "--index=i", *flags)
  done = command.run(tmp_path, *given)
  assert done.returncode == 1 and part in done.stderr, done
  assert "Traceback" not in done.stderr


def test_it_is_for_indexing(tmp_path):
  done = command.run(tmp_path, "--mode=search", "--index=i", f"--detect={YOLO}")
  assert done.returncode == 1 and "--detect is for --mode=index" in done.stderr
