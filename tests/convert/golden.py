"""The tiny CLIP of tests/models/golden: weights by both namings, and its outputs."""

import pathlib

import jax
import numpy as np

from tests.models.clip_weights import from_hugging_face
from tpr_jax.models import build

PATH = pathlib.Path(__file__).parent.parent / "models" / "golden" / "clip_tiny.npz"
VOCABULARY = 60
CONFIG = dict(
  variant="tiny",
  image_size=(24, 24),
  patch=8,
  vision_width=32,
  vision_layers=2,
  vision_heads=4,
  text_length=12,
  text_width=24,
  text_layers=2,
  text_heads=2,
  joint_dim=16,
)
HF_CONFIG = dict(
  model_type="clip",
  vision_config=dict(num_attention_heads=4, hidden_act="quick_gelu"),
  text_config=dict(num_attention_heads=2),
)


def load() -> tuple[dict, dict]:
  """(Hugging Face weights float32, inputs and outputs)."""
  with np.load(PATH) as file:
    arrays = {name: file[name] for name in file.files}
  weights = {
    name.removeprefix("weights/"): value.astype(np.float32)
    for name, value in arrays.items()
    if name.startswith("weights/")
  }
  return weights, {k: v for k, v in arrays.items() if not k.startswith("weights/")}


def to_openai(hf: dict) -> dict:
  """The same weights under OpenAI's names, written out leaf by leaf."""
  out = {"logit_scale": hf["logit_scale"]}
  vision, text = "vision_model.", "text_model."
  out["visual.class_embedding"] = hf[vision + "embeddings.class_embedding"]
  out["visual.conv1.weight"] = hf[vision + "embeddings.patch_embedding.weight"]
  table = hf[vision + "embeddings.position_embedding.weight"]
  out["visual.positional_embedding"] = table
  out["visual.proj"] = hf["visual_projection.weight"].T.copy()
  out["token_embedding.weight"] = hf[text + "embeddings.token_embedding.weight"]
  out["positional_embedding"] = hf[text + "embeddings.position_embedding.weight"]
  out["text_projection"] = hf["text_projection.weight"].T.copy()
  for part in ("weight", "bias"):
    out[f"visual.ln_pre.{part}"] = hf[f"vision_model.pre_layrnorm.{part}"]
    out[f"visual.ln_post.{part}"] = hf[f"vision_model.post_layernorm.{part}"]
    out[f"ln_final.{part}"] = hf[f"text_model.final_layer_norm.{part}"]
    for mine, theirs in (("visual.", vision), ("", text)):
      for i in range(2):
        new = f"{mine}transformer.resblocks.{i}."
        old = f"{theirs}encoder.layers.{i}."
        attention = [hf[f"{old}self_attn.{w}_proj.{part}"] for w in ("q", "k", "v")]
        out[f"{new}attn.in_proj_{part}"] = np.concatenate(attention, axis=0)
        out[f"{new}attn.out_proj.{part}"] = hf[f"{old}self_attn.out_proj.{part}"]
        out[f"{new}mlp.c_fc.{part}"] = hf[f"{old}mlp.fc1.{part}"]
        out[f"{new}mlp.c_proj.{part}"] = hf[f"{old}mlp.fc2.{part}"]
        out[f"{new}ln_1.{part}"] = hf[f"{old}layer_norm1.{part}"]
        out[f"{new}ln_2.{part}"] = hf[f"{old}layer_norm2.{part}"]
  return out


def fields(**overrides) -> dict:
  return build.settings({**CONFIG, **overrides})


def check_outputs(params: dict) -> None:
  """The towers with these parameters give what transformers computed."""
  _, expected = load()
  model = build.build(CONFIG, vocab_size=VOCABULARY)
  out = jax.jit(model.apply)(
    {"params": params}, expected["image_input"], expected["text_input"]
  )
  for name in ("image", "text", "image_tokens", "text_tokens"):
    np.testing.assert_allclose(out[name], expected[name], atol=1e-5, rtol=1e-5)


def check_params(params: dict, *, atol: float = 0.0) -> None:
  """Leaf for leaf the parameters that the golden weights make."""
  expected = from_hugging_face(load()[0], layers=2)["params"]
  assert jax.tree.structure(params) == jax.tree.structure(expected)
  for ours, theirs in zip(
    jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
  ):
    assert ours.dtype == np.float32 and ours.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)
