"""transformers' models, exported: the .onnx file finds what the folder finds.

Small models of random weights, by torch.onnx.export; needs torch, onnxscript (with
onnx) and onnxruntime.
"""

import numpy as np
import pytest

from tests.detect import scenes
from tpr_jax.detect import place, wanted

for _module in ("onnxscript", "onnxruntime"):
  pytest.importorskip(_module, reason=f"{_module} is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers")

NAMES = dict(id2label={0: "dog", 1: "person"}, label2id={"dog": 0, "person": 1})
SMALL = dict(embedding_size=16, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1])
HEADS = dict(encoder_attention_heads=2, decoder_attention_heads=2)
WIDTHS = dict(d_model=32, encoder_ffn_dim=32, decoder_ffn_dim=32, **HEADS)


def yolos():
  from transformers.models.yolos import image_processing_pil_yolos as library

  config = transformers.YolosConfig(
    **dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    **dict(intermediate_size=16, image_size=[64, 64], num_detection_tokens=20),
    **NAMES,
  )
  model = transformers.YolosForObjectDetection(config)
  return model, library.YolosImageProcessorPil, (64, 64)


def detr():
  from transformers.models.detr import image_processing_pil_detr as library

  backbone = transformers.ResNetConfig(
    **SMALL, layer_type="basic", out_features=["stage4"]
  )
  config = transformers.DetrConfig(
    **dict(use_timm_backbone=False, backbone=None, use_pretrained_backbone=False),
    **dict(backbone_config=backbone, encoder_layers=1, decoder_layers=1),
    **dict(num_queries=20, **WIDTHS, **NAMES),
  )
  model = transformers.DetrForObjectDetection(config)
  return model, library.DetrImageProcessorPil, (128, 160)


def rt_detr():
  from transformers.models.rt_detr import image_processing_pil_rt_detr as library

  backbone = transformers.RTDetrResNetConfig(
    **SMALL, layer_type="basic", out_features=["stage2", "stage3", "stage4"]
  )
  config = transformers.RTDetrConfig(
    **dict(backbone_config=backbone, encoder_in_channels=[24, 32, 40]),
    **dict(encoder_hidden_dim=32, decoder_in_channels=[32, 32, 32], num_denoising=0),
    **dict(num_queries=30, decoder_layers=2, **WIDTHS, **NAMES),
  )
  model = transformers.RTDetrForObjectDetection(config)
  return model, library.RTDetrImageProcessorPil, (160, 160)


class Outputs(torch.nn.Module):
  def __init__(self, model):
    super().__init__()
    self.model = model

  def forward(self, pixel_values):
    found = self.model(pixel_values)
    return found.logits, found.pred_boxes


@pytest.mark.proof
@pytest.mark.parametrize("make", [yolos, detr, rt_detr])
def test_an_export_finds_what_its_folder_finds(make, tmp_path):
  torch.manual_seed(0)
  model, processor, size = make()
  with torch.no_grad():
    for name, array in model.named_parameters():
      if array.ndim > 1:  # their own are so small that all boxes are one
        array.normal_(0, 0.15)
      elif "class_labels_classifier" in name and len(array) == 3:
        array[:] = torch.tensor([0.0, 1.5, 0.0])
      elif "class_embed" in name:
        array[:] = torch.tensor([-3.0, 0.0])
  model.eval().save_pretrained(tmp_path)
  processor(size=dict(height=size[0], width=size[1])).save_pretrained(tmp_path)
  (tmp_path / "onnx").mkdir()
  file = tmp_path / "onnx" / "model.onnx"
  torch.onnx.export(
    Outputs(model),
    (torch.rand(1, 3, *size),),
    str(file),
    input_names=["pixel_values"],
    output_names=["logits", "pred_boxes"],
    dynamo=True,
    external_data=False,
  )
  frame = scenes.scene(*scenes.crowd(3), size=(320, 480))
  found = []
  for each in (tmp_path, file):
    detector = place.Place(wanted.wanted(str(each), score=0.1)).load()
    corners, scores = detector(frame)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= 0.1]
    found.append((corners[order], scores[order]))
  assert len(found[0][1]) > 2
  np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-4)
  np.testing.assert_allclose(found[1][0], found[0][0], atol=0.05)
