"""Hugging Face CLIP weights -> our parameters, written out for the parity test."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def _norm(weights: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
  return dict(scale=weights[f"{name}.weight"], bias=weights[f"{name}.bias"])


def _dense(weights: Mapping[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
  """One kernel [in, out] out of one or several PyTorch weights [out, in]."""
  return dict(
    kernel=np.concatenate([weights[f"{name}.weight"].T for name in names], axis=1),
    bias=np.concatenate([weights[f"{name}.bias"] for name in names]),
  )


def _blocks(weights: Mapping[str, np.ndarray], tower: str, layers: int) -> dict:
  blocks = {}
  for i in range(layers):
    at = f"{tower}.encoder.layers.{i}"
    qkv = [f"{at}.self_attn.{which}_proj" for which in "qkv"]
    blocks[f"block_{i}"] = dict(
      ln_1=_norm(weights, f"{at}.layer_norm1"),
      attn=dict(
        qkv=_dense(weights, *qkv), out=_dense(weights, f"{at}.self_attn.out_proj")
      ),
      ln_2=_norm(weights, f"{at}.layer_norm2"),
      mlp=dict(
        fc=_dense(weights, f"{at}.mlp.fc1"), proj=_dense(weights, f"{at}.mlp.fc2")
      ),
    )
  return blocks


def from_hugging_face(weights: Mapping[str, np.ndarray], layers: int) -> dict[str, Any]:
  """Parameters of `DualEncoder` without heads; both towers have `layers` layers."""
  vision, text = "vision_model", "text_model"
  patches = weights[f"{vision}.embeddings.patch_embedding.weight"]  # [D, 3, h, w]
  visual = dict(
    class_embedding=weights[f"{vision}.embeddings.class_embedding"],
    patch_embedding=dict(kernel=patches.transpose(2, 3, 1, 0)),
    position_embedding=weights[f"{vision}.embeddings.position_embedding.weight"],
    ln_pre=_norm(weights, f"{vision}.pre_layrnorm"),
    blocks=_blocks(weights, vision, layers),
    ln_post=_norm(weights, f"{vision}.post_layernorm"),
    projection=dict(kernel=weights["visual_projection.weight"].T),
  )
  words = dict(
    token_embedding=weights[f"{text}.embeddings.token_embedding.weight"],
    position_embedding=weights[f"{text}.embeddings.position_embedding.weight"],
    blocks=_blocks(weights, text, layers),
    ln_final=_norm(weights, f"{text}.final_layer_norm"),
    projection=dict(kernel=weights["text_projection.weight"].T),
  )
  return dict(params=dict(visual=visual, text=words))
