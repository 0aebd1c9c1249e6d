"""The two commands with real, if untrained, towers: a published CLIP's folder."""

import json
import shutil

from PIL import Image

from tests import command
from tests.export import models
from tests.search import place
from tpr_jax.export import huggingface


def test_index_and_search_by_a_converted_clip(tmp_path):
  model = models.random()
  (tmp_path / "clip").mkdir()
  huggingface.write(model, tmp_path / "clip")
  images = place.folder(tmp_path / "images", 5)
  (images / "bad.jpg").write_bytes(b"nothing")
  (tmp_path / "table.csv").write_text("path,camera\ncam0/000.png,gate\n")
  made = command.run(
    tmp_path,
    *("--mode=index", "--run=clip", "--images=images", "--index=index"),
    "--metadata=table.csv",
  )
  assert made.returncode == 0, made.stderr
  assert "6 new" in made.stdout and "1 broken" in made.stdout
  assert "Encoded 5 pictures" in made.stdout
  shutil.copy(images / "cam0" / "002.png", tmp_path / "asked.png")
  found = command.run(
    tmp_path,
    *("--mode=search", "--index=index", "--image=asked.png", "--top=9", "--json"),
    *("--query=a woman in a red coat", "--where=camera is null", "--sheet=s.png"),
  )
  assert found.returncode == 0, found.stderr
  answer = json.loads(found.stdout)  # nothing else is on standard output
  assert (answer["searched"], answer["total"]) == (4, 5)
  hits = {hit["path"]: hit for hit in answer["hits"]}
  assert len(hits) == 4 and "cam0/000.png" not in hits
  # The cosines are the towers' own.
  rows = model.encode_images([images / path for path in hits])
  own = model.encode_images([tmp_path / "asked.png"])[0]
  text = model.encode_texts(["a woman in a red coat"])[0]
  for hit, row in zip(hits.values(), rows, strict=True):
    assert abs(hit["cosines"]["image"] - row @ own) < 1e-5
    assert abs(hit["cosines"]["text"] - row @ text) < 1e-5
  with Image.open(tmp_path / "s.png") as sheet:
    assert sheet.format == "PNG"
