"""BERT's and MRA's names to ours and back; what is missing, extra or misshaped."""

import collections
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.models import bert_side
from tpr_jax.convert import bert, files
from tpr_jax.convert.source import ConvertError
from tpr_jax.core import tree

WIDTH, WIDE, VOCAB = 32, 24, 50  # of the golden BERT
TEXT = ("text/", "words/")


@pytest.fixture(scope="module")
def state():
  """The golden weights: Hugging Face's names, with cross-attention and word head."""
  return bert_side.load()[0]


def shapes(joint_dim=8, parts=None):
  found = bert_side.shapes(False, joint_dim)
  return {k: v for k, v in found.items() if parts is None or k.startswith(parts)}


def mra(state, joint_dim=8):
  """A file as MRA's training code writes it, with names written out."""
  rng = np.random.default_rng(5)
  drawn = lambda *shape: rng.normal(size=shape).astype(np.float32)
  made = {f"text_encoder.{name}": value for name, value in state.items()}
  table = state["bert.embeddings.word_embeddings.weight"]
  made |= {
    "text_encoder.cls.predictions.decoder.weight": table,
    "text_encoder.cls.predictions.decoder.bias": state["cls.predictions.bias"],
    "text_encoder.bert.embeddings.position_ids": np.arange(14.0)[None],
    "vision_encoder.norm.weight": drawn(WIDE),
    "temp": np.float32(0.05),
    "itm_head.0.weight": drawn(2 * WIDTH, WIDTH),
    "itm_head.0.bias": drawn(2 * WIDTH),
    "itm_head.1.weight": drawn(2 * WIDTH),
    "itm_head.1.bias": drawn(2 * WIDTH),
    "itm_head.3.weight": drawn(2, 2 * WIDTH),
    "itm_head.3.bias": drawn(2),
  }
  for side, width, bins in (("vision_proj", WIDE, 3), ("text_proj", WIDTH, 4)):
    if joint_dim == 256:
      made[f"{side}.weight"] = drawn(256, width)
      made[f"{side}.bias"] = drawn(256)
      continue
    for name in ("weight", "bias", "running_mean", "running_var"):
      made[f"{side}.0.{name}"] = drawn(bins * width)
    made[f"{side}.0.num_batches_tracked"] = np.float32(7)
    made[f"{side}.2.weight"] = drawn(joint_dim, bins * width)
    made[f"{side}.2.bias"] = drawn(joint_dim)
  return made


def equal(found, expected):
  assert tree.shapes(found) == tree.shapes(expected)
  for name, value in tree.flat(expected).items():
    np.testing.assert_array_equal(tree.flat(found)[name], value, name)


def test_leaves_are_where_they_belong(state):
  """Leaf by leaf, of one layer; the others by outputs, in models/test_bert.py."""
  params, report = bert.from_huggingface(state, shapes(parts=TEXT))
  assert report == bert.Report()
  layer, theirs = params["text"]["layer_3"], "bert.encoder.layer.3."
  side_by_side = lambda module, *names: np.concatenate(
    [state[f"{theirs}{module}.self.{name}.weight"].T for name in names], axis=1
  )
  qkv = side_by_side("attention", "query", "key", "value")
  np.testing.assert_array_equal(layer["attn"]["qkv"]["kernel"], qkv)
  kv = side_by_side("crossattention", "key", "value")
  assert kv.shape == (WIDE, 2 * WIDTH)
  np.testing.assert_array_equal(layer["cross_attn"]["kv"]["kernel"], kv)
  bias = state[f"{theirs}crossattention.self.value.bias"]
  np.testing.assert_array_equal(layer["cross_attn"]["kv"]["bias"][WIDTH:], bias)
  scale = state[f"{theirs}crossattention.output.LayerNorm.weight"]
  np.testing.assert_array_equal(layer["ln_cross"]["scale"], scale)
  for leaf in tree.flat(params).values():
    assert leaf.dtype == np.float32 and leaf.flags["C_CONTIGUOUS"]


def test_published_files_of_every_age(state):
  wanted = shapes(parts=TEXT)
  expected, _ = bert.from_huggingface(state, wanted)
  old = {
    name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta"
    ): value
    for name, value in state.items()
  }
  assert sum(name.endswith("gamma") for name in old) == 4 * 2 + 2 + 2
  extra = {
    "bert.pooler.dense.weight": np.ones((WIDTH, WIDTH), np.float32),
    "cls.seq_relationship.bias": np.ones(2, np.float32),
    "bert.embeddings.position_ids": np.arange(14.0)[None],
    "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"],
  }
  found, report = bert.from_huggingface(old | extra, wanted)
  equal(found, expected)
  assert sorted(report.dropped) == sorted(extra) and not report.anew
  # The word bias under its second name alone.
  new = dict(state)
  new["cls.predictions.decoder.bias"] = new.pop("cls.predictions.bias")
  found, report = bert.from_huggingface(new, wanted)
  equal(found, expected)
  assert report.dropped == ["cls.predictions.decoder.bias"]


def test_a_bare_bert_model_leaves_the_rest_to_start_anew(state):
  bare = {
    name.removeprefix("bert."): value
    for name, value in state.items()
    if name.startswith("bert.") and "crossattention" not in name
  }
  params, report = bert.from_huggingface(bare, shapes())
  assert set(params) == {"text"} and "cross_attn" not in params["text"]["layer_3"]
  cross = {name for name in report.anew if "cross" in name}
  assert cross == {name for name in shapes(parts=TEXT) if "cross" in name}
  assert len(cross) == 2 * (3 * 2 + 2)
  rest = set(report.anew) - cross
  assert rest == {f"words/{x}" for x in ("dense/kernel", "dense/bias", "bias")} | {
    "words/ln/scale",
    "words/ln/bias",
  }
  part = {k: v for k, v in state.items() if "layer.3.crossattention.output" not in k}
  with pytest.raises(ConvertError, match=r"4 problems.*layer\.3\.cross.* is missing"):
    bert.from_huggingface(part, shapes())


def test_a_shorter_text_takes_the_first_positions(state):
  wanted = shapes(parts=TEXT) | {"text/position_embedding": (9, WIDTH)}
  params, report = bert.from_huggingface(state, wanted)
  table = state["bert.embeddings.position_embeddings.weight"]
  np.testing.assert_array_equal(params["text"]["position_embedding"], table[:9])
  assert report.resized == ["text/position_embedding: 14 rows -> 9"]
  wanted["text/position_embedding"] = (20, WIDTH)
  with pytest.raises(ConvertError, match=r"shape \(14, 32\), expected \(20, 32\)"):
    bert.from_huggingface(state, wanted)


# ---- MRA's files


def test_an_mra_file_has_every_part(state):
  file = mra(state)
  params, report = bert.from_mra(file, shapes())
  assert tree.shapes(params) == shapes() and not report.anew
  expected, _ = bert.from_huggingface(state, shapes(parts=TEXT))
  equal({k: params[k] for k in ("text", "words")}, expected)
  assert params["temperature"] == np.float32(0.05)
  norm = params["text_projection"]["bn"]
  for ours, theirs in dict(
    scale="weight", bias="bias", mean="running_mean", variance="running_var"
  ).items():
    np.testing.assert_array_equal(norm[ours], file[f"text_proj.0.{theirs}"])
  kernel = params["image_projection"]["dense"]["kernel"]
  np.testing.assert_array_equal(kernel, file["vision_proj.2.weight"].T)
  itm = params["itm"]
  np.testing.assert_array_equal(itm["fc"]["kernel"], file["itm_head.0.weight"].T)
  np.testing.assert_array_equal(itm["ln"]["scale"], file["itm_head.1.weight"])
  np.testing.assert_array_equal(itm["logits"]["kernel"], file["itm_head.3.weight"].T)
  assert any(name.endswith("num_batches_tracked") for name in report.dropped)
  assert not any(name.startswith("vision_encoder") for name in report.dropped)


def test_the_linear_form_and_projections_that_start_anew(state):
  params, _ = bert.from_mra(mra(state, 256), shapes(256))
  assert params["text_projection"]["linear"]["kernel"].shape == (WIDTH, 256)
  sides = ("image_projection", "text_projection")
  # RSTPReid's model on a file that was pre-trained with bins.
  with pytest.raises(ConvertError, match=r"vision_proj\.weight is missing"):
    bert.from_mra(mra(state), shapes(256))
  params, report = bert.from_mra(mra(state), shapes(256), anew=sides)
  assert not set(sides) & set(params) and "itm" in params
  assert set(report.anew) == {k for k in shapes(256) if k.startswith(sides)}
  assert {"vision_proj.2.weight", "text_proj.0.running_var"} <= set(report.dropped)
  # Where the file has them, they are taken.
  params, report = bert.from_mra(mra(state), shapes(), anew=sides)
  assert set(sides) <= set(params) and not report.anew
  with pytest.raises(ConvertError, match=r"anew=\['projections'\]: expected names of"):
    bert.from_mra(mra(state), shapes(), anew=("projections",))


def test_a_model_without_a_head_leaves_the_files_out(state):
  wanted = {k: v for k, v in shapes().items() if not k.startswith("words/")}
  params, report = bert.from_mra(mra(state), wanted)
  assert "words" not in params and "cls.predictions.bias" in report.dropped


def test_all_that_does_not_fit_is_told_at_once(state):
  file = mra(state)
  file["text_encoder.bert.encoder.layer.4.output.dense.bias"] = np.ones(WIDTH)
  del file["itm_head.3.bias"]
  file["vision_proj.2.weight"] = np.ones((9, 72), np.float32)
  file["text_encoder.cls.predictions.decoder.weight"] = np.ones((VOCAB, WIDTH))
  key = "text_encoder.bert.embeddings.word_embeddings.weight"
  file[key] = file[key][:-1]
  with pytest.raises(ConvertError) as caught:
    bert.from_mra(file, shapes(), place="ft_cuhk.pth")
  message = str(caught.value)
  for part in (
    "ft_cuhk.pth does not fit the model (5 problems)",
    "itm_head.3.bias is missing",
    "vision_proj.2.weight has shape (9, 72), expected (8, 72)",
    "layer.4.output.dense.bias has no place in the model",
    "decoder.weight is not the table of the tokens",
    "(49, 32), expected (50, 32) (rows are the vocabulary: use the tokenizer",
  ):
    assert part in message


# ---- files, and back


CONFIG = dict(
  model_type="bert",
  vocab_size=VOCAB,
  hidden_size=WIDTH,
  num_hidden_layers=4,
  num_attention_heads=4,
  intermediate_size=80,
  max_position_embeddings=14,
)


def test_a_folder_of_hugging_face(state, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(CONFIG))
  save_file(
    {f"module.{k}": v for k, v in state.items()}, tmp_path / "model.safetensors"
  )
  found, config = files.weights(tmp_path)
  assert set(found) == set(state)
  sizes = bert.fields(config, str(tmp_path))
  own = {k: v for k, v in bert_side.FIELDS.items() if k in sizes}
  assert sizes == {**own, "epsilon": 1e-12} and len(own) == 6
  alone, none = files.weights(tmp_path / "model.safetensors")
  assert none == {} and set(alone) == set(state)
  wrong = {**config, "model_type": "roberta", "hidden_act": "relu"}
  del wrong["hidden_size"]
  with pytest.raises(ConvertError, match=r"'roberta'.*'relu'.*hidden_size is missing"):
    bert.fields(wrong)
  with pytest.raises(ConvertError, match=r"no such file or folder"):
    files.weights("/no/such/place.pth")


def test_a_torch_file_of_mra(state, tmp_path, monkeypatch):
  torch = pytest.importorskip("torch", reason="torch writes the file of this test")
  # Its config, beside the weights, may be what the YAML library made of it.
  yaml = {"__module__": "ruamel.yaml.comments"}
  kind = type("CommentedMap", (collections.OrderedDict,), yaml)
  for name in ("ruamel", "ruamel.yaml", "ruamel.yaml.comments"):
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(CommentedMap=kind))
  file = {k: torch.from_numpy(np.array(v)) for k, v in mra(state).items()}
  torch.save(dict(model=file, config=kind(embed_dim=8)), tmp_path / "pretrain.pth")
  found, _ = files.weights(tmp_path / "pretrain.pth")
  params, _ = bert.from_mra(found, shapes())
  equal(params, bert.from_mra(mra(state), shapes())[0])


def test_there_and_back_again(state):
  params, _ = bert.from_mra(mra(state), shapes())
  back, config = bert.to_huggingface(params, heads=4, cross=True)
  twins = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
  assert set(back) == set(state) | twins
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value, name)
  assert {k: config[k] for k in CONFIG} == CONFIG
  plain, _ = bert.to_huggingface(params, heads=4)
  assert set(back) - set(plain) == {k for k in state if "crossattention" in k}
  with pytest.raises(ConvertError, match="no 'text' among the parameters"):
    bert.to_huggingface({"words": params["words"]}, heads=4)


def test_transformers_reads_what_we_write(state, tmp_path):
  torch = pytest.importorskip("torch", reason="transformers needs torch for its BERT")
  from transformers import BertForMaskedLM, BertModel

  params, _ = bert.from_huggingface(state, shapes(parts=TEXT))
  made, config = bert.to_huggingface(params, heads=4)
  (tmp_path / "config.json").write_text(json.dumps(config))
  save_file(made, tmp_path / "model.safetensors", {"format": "pt"})
  golden = bert_side.load()[1]
  ids = torch.from_numpy(golden["ids"]).long()
  load = dict(output_loading_info=True)
  model, told = BertForMaskedLM.from_pretrained(tmp_path, **load)
  assert not told["missing_keys"] and not told["unexpected_keys"]
  with torch.no_grad():
    logits = model.eval()(ids, (ids != 0).long()).logits.numpy()
    bare = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    states = bare(ids, (ids != 0).long()).last_hidden_state.numpy()
  np.testing.assert_allclose(logits, golden["text_words"], atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(states, golden["all_text"], atol=1e-5, rtol=1e-5)
