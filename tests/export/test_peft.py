"""Exported adapters in PEFT itself, on the towers that they are for."""

import numpy as np
import pytest

import tpr_jax
from tests import test_adapters_run as runs
from tests import written_run
from tpr_jax import run_weights
from tpr_jax.core import tree
from tpr_jax.export import huggingface
from tpr_jax.export.export import export
from tpr_jax.models import adapters

TEXTS = ["a man in a red coat", "a woman", "two blue bags and a hat"]
RULES = {
  "dora": runs.DORA,
  "lora": ((runs.LAYERS, dict(method="lora", rank=3, alpha_init=5.0)),),
}


@pytest.mark.parametrize("method", RULES)
def test_peft_computes_what_we_do(method, tmp_path):
  torch = pytest.importorskip("torch")
  peft = pytest.importorskip("peft")
  transformers = pytest.importorskip("transformers")
  run, out, base = (tmp_path / name for name in ("run", "peft", "base"))
  config = runs.config("", RULES[method], runs.TOWERS)
  written_run.write(run, config=config, scores={3: 20.0})
  export(run, out, "peft", say=lambda _: None)
  model = tpr_jax.load(run)
  ids, _ = model.tokenizer.encode(TEXTS, model.text_length)
  pixels = np.random.default_rng(0).normal(size=(2, *model.image_size, 3))
  pixels = pixels.astype(np.float32)
  images = model.model.apply({"params": model.params}, pixels, method="encode_image")
  expected = np.concatenate([model.encode_texts(TEXTS), images["image"]])
  whole = run_weights.read(run, merge=False).weights
  model.params = tree.nested(
    {n: x for n, x in whole.items() if not adapters.of_leaf(n)}
  )
  base.mkdir()
  huggingface.write(model, base)

  def rows(clip):
    shown = torch.tensor(pixels).permute(0, 3, 1, 2)
    with torch.inference_mode():
      text = clip.get_text_features(input_ids=torch.tensor(ids).long())
      image = clip.get_image_features(shown, interpolate_pos_encoding=True)
    made = [x if torch.is_tensor(x) else x.pooler_output for x in (text, image)]
    return np.concatenate([(x / x.norm(dim=-1, keepdim=True)).numpy() for x in made])

  clip = transformers.CLIPModel.from_pretrained(base).eval()
  assert np.abs(rows(clip) - expected).max() > 0.1
  found = rows(peft.PeftModel.from_pretrained(clip, out).eval())
  np.testing.assert_allclose(found, expected, atol=2e-6)
