"""Programs are compiled ahead for the batches that views make."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cfam
from tests import layouts
from tests.data.noise import dataset
from tpr_jax import program
from tpr_jax.data import pipeline, tokenizer, views


@pytest.mark.parametrize("asked", [True, False])
def test_shapes_of_batches_are_known_before_them(asked):
  config = cfam.get_config("rendered,texts=coarse")
  config.data.batch, config.text.length, config.text.buckets = 4, 24, (10,)
  config.model.image_size = (48, 24)
  if asked:
    eda = dict(synonyms="people", replace=0.1)
    config.data.views = ConfigDict(
      dict(region=(6, 3), eda=eda, mask=dict(rule="words"))
    )
  people = tokenizer.build("people")
  people.continues = np.zeros(people.vocab_size, bool)
  region = {"regions": [{"box": [0.5, 0.5, 0.5, 0.5], "phrase": "a hat"}]}
  data = dataset(20)
  records = (dataclasses.replace(r, truth=region) for r in data.records)
  batches = pipeline.train_iterator(
    dataclasses.replace(data, records=tuple(records)),
    people,
    pipe="resize(48,24)",
    length=24,
    batch=4,
    seed=0,
    buckets=(10,),
    views=views.build(config.data.get("views")),
  )
  expected = program.batch_shapes(config, layouts.mesh(layouts.ONE))
  known = [{k: (v.shape, v.dtype) for k, v in shapes.items()} for shapes in expected]
  assert ("phrase" in known[0]) == asked and len(known) == 2
  met = set()
  for _ in range(12):
    found = {k: (v.shape, v.dtype) for k, v in next(batches).items()}
    assert found in known
    met.add(found["text"][0][1])
  batches.close()
  assert met == {10, 24}
