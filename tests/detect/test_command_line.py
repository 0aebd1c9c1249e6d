"""--mode=index --detect as people type it, with real, if untrained, towers."""

import json

import pytest

from tests import command
from tests.detect import scenes
from tests.export import models
from tpr_jax.export import huggingface

for _module in ("onnxruntime", "lancedb"):
  pytest.importorskip(_module, reason=f"{_module} is not installed")


@pytest.mark.proof
def test_people_of_scenes_are_found_by_words(tmp_path):
  (tmp_path / "clip").mkdir()
  huggingface.write(models.random(), tmp_path / "clip")
  where = {}
  for number in range(3):
    figures = where[f"day/{number}.png"] = scenes.crowd(number)
    scenes.write(tmp_path / "frames" / "day" / f"{number}.png", scenes.scene(*figures))
  scenes.write(tmp_path / "frames" / "empty.jpg", scenes.scene())
  given = ("--mode=index", "--run=clip", "--images=frames", "--index=index")
  detect = (f"--detect={scenes.file()}", "--detect_margin=0.05", "--detect_height=60")
  made = command.run(tmp_path, *given, *detect)
  assert made.returncode == 0, made.stderr
  people = sum(map(len, where.values()))
  assert f"People in the frames looked at: {people} in 4" in made.stdout
  again = command.run(tmp_path, *given, *detect)
  assert "4 unchanged" in again.stdout and "Loading" not in again.stdout
  for other in ([], [*detect, "--detect_score=0.4"]):
    refused = command.run(tmp_path, *given, *other)
    assert refused.returncode == 1 and "--detect" in refused.stderr
  found = command.run(
    tmp_path,
    *("--mode=search", "--index=index", "--query=a red coat", "--top=20", "--json"),
    *("--where=box_height > 60 and path like 'day/%'", "--sheet=s.html"),
  )
  assert found.returncode == 0, found.stderr
  hits = json.loads(found.stdout)["hits"]
  assert len(hits) == people
  for hit in hits:
    x, y, width, height = hit["box"]
    box = (x, y, x + width, y + height)
    assert max(scenes.overlap(box, each.corners) for each in where[hit["path"]]) > 0.7
  assert (tmp_path / "s.html").read_text().count("in its frame") == people
