"""Writes tests/reference/golden/irra_losses.npz and irra_trace.npz: IRRA in PyTorch.

  pip install torch
  python -m tests.reference.make_irra_golden

Run by hand, from the repository's root, on a CPU. numpy draws everything (seeds in the
code); torch computes. tests/reference/irra.py reads the files, test_irra_golden.py
holds them to what this script makes.

irra_losses.npz: float32 inputs, values and gradients in float64 (so the rounding of
whoever compares is the only one). B = 8 pairs, D = 16, 5 identities of 7 classes, 6
images. Gradients are with respect to the features before division by their length.
  inputs/           image, text [8, 16]; ids, image_ids [8]; weight [7, 16], bias [7];
                    mlm_logits [96, 40]; mlm_labels [96], 0 = not masked
  sdm_hard/         scale 50, labels by identity
  sdm_soft_released/  another picture of the same person counts 0.3; divided as IRRA's
                    released code does it, `labels / labels.sum(dim=1)`: by columns
  sdm_soft_rows/    the same labels with keepdim=True: every row sums to 1
  infonce/          scale 50, positives on the diagonal, mean of both directions
  identity/         shared linear classifier on the raw features, mean of both
  mlm/              mean over the masked positions

irra_trace.npz: 14 updates (2 an epoch, so 7 epochs: warm-up, its end, cosine) of the
model `irra.MODEL`, in float32 and once more in float64 (`losses64`). Weights are drawn
with IRRA's and CLIP's deviations, then rounded to multiples of the power of two nearest
to the deviation, so that the file is small and holds them exactly (int8 `weights/NAME`,
times `weight_steps`). LayerNorms and biases, which start at 1 and 0, get a draw of
deviation 0.1 on top, so that a swapped pair shows; the classifier's bias is 0, as in
IRRA.

From torch to another layout (in -> out, heads split):
  Linear.weight [out, in]            kernel = weight.T
  attn.in_proj_weight [3 D, D]       query, key, value below each other; each .T; the
                                     output of head h are rows h*(D/heads) onwards
  attn.in_proj_bias [3 D]            query, key, value
  visual.conv1.weight [W, 3, p, p]   kernel [p, p, 3, W]
  visual.proj, text_projection       [width, D], used as x @ proj: not transposed
  LayerNorm.weight, .bias            scale, bias; epsilon 1e-5
  token_embedding.weight [V, W], positional_embedding, class_embedding: as they are
What a port gets wrong easily: the cross attention has no residual; LayerNorm ln_pre_i
serves keys and values; nothing masks the padding, neither in the text tower nor in the
cross-modal part; "bias" in a name also means in_proj_bias, and its 2x overrides
cross_attn's 5x; LayerNorm weights decay; Adam's epsilon is 1e-3, outside the root; its
weight decay is L2, added to the gradient before the moments.
"""

import numpy as np
import torch

from tests.reference import irra, irra_torch

WEIGHT_SEED, LOSS_SEED, PEOPLE_SEED = 0, 1, 2
IMAGE_STEP = 0.25
# Written out: one parameter of every kind and rule. The rest is held by probes.
CHOSEN = (
  "base_model.visual.class_embedding",
  "base_model.visual.positional_embedding",
  "base_model.visual.conv1.weight",
  "base_model.visual.ln_pre.weight",
  "base_model.visual.transformer.resblocks.1.attn.in_proj_weight",
  "base_model.visual.transformer.resblocks.1.attn.in_proj_bias",
  "base_model.visual.proj",
  "base_model.token_embedding.weight",
  "base_model.positional_embedding",
  "base_model.transformer.resblocks.0.mlp.c_fc.weight",
  "base_model.transformer.resblocks.0.mlp.c_fc.bias",
  "base_model.transformer.resblocks.1.ln_2.weight",
  "base_model.ln_final.bias",
  "base_model.text_projection",
  "classifier.weight",
  "classifier.bias",
  "cross_attn.in_proj_bias",
  "cross_attn.out_proj.weight",
  "cross_modal_transformer.resblocks.3.mlp.c_fc.bias",
  "cross_modal_transformer.resblocks.3.ln_1.weight",
  "ln_pre_t.weight",
  "ln_pre_i.weight",
  "ln_post.bias",
  "mlm_head.dense.bias",
  "mlm_head.ln.weight",
  "mlm_head.fc.weight",
  "mlm_head.fc.bias",
)


def deviation(name: str, shape: tuple[int, ...]) -> float:
  """Standard deviation of a parameter's draw: CLIP's in the towers, IRRA's behind."""
  if name == "classifier.weight":
    return 0.001
  if len(shape) < 2 and not name.endswith("class_embedding"):
    return 0.1
  towers = irra.MODEL["towers"]
  if name.startswith("base_model."):
    width, layers = towers["width"], towers["layers"]
    if ".visual." in name:
      width, layers = towers["vision"]["width"], towers["vision"]["layers"]
  else:
    width, layers = towers["joint"], irra.MODEL["depth"]
  if name == "base_model.token_embedding.weight":
    return 0.02
  if name == "base_model.positional_embedding":
    return 0.01
  if name.endswith("conv1.weight"):
    return float(np.prod(shape[1:])) ** -0.5
  if name.endswith(("out_proj.weight", "c_proj.weight", "mlm_head.fc.weight")):
    return width**-0.5 * (2 * layers) ** -0.5
  if name.endswith(("c_fc.weight", "mlm_head.dense.weight")):
    return (2 * width) ** -0.5
  return width**-0.5


def draw_weights(model: torch.nn.Module) -> tuple[dict, np.ndarray]:
  """(int8 by name, float32 [P] steps): the initial value is their product."""
  rng = np.random.default_rng(WEIGHT_SEED)
  whole, steps = {}, []
  for name, value in model.named_parameters():
    shape = tuple(value.shape)
    sigma = deviation(name, shape)
    step = 2.0 ** round(np.log2(sigma))
    drawn = np.zeros(shape)
    if name != "classifier.bias":
      drawn = np.round(rng.normal(0.0, sigma, shape) / step)
    if name.endswith("weight") and len(shape) == 1:  # of a LayerNorm
      drawn = drawn + 1 / step
    assert np.abs(drawn).max() < 128, name
    whole[name] = drawn.astype(np.int8)
    steps.append(step)
  return whole, np.array(steps, np.float32)


def draw_batch(step: int) -> dict[str, np.ndarray]:
  """One batch; `image` int8 in multiples of IMAGE_STEP, the rest as `irra.Trace` says.

  Person i has a pattern of pixels and six words of its own, so there is something to
  learn. Five people, three of them twice. About 30% of the words are masked (of which
  80% get the mask id, 10% another word, 10% stay), at least the first.
  """
  rng = np.random.default_rng(step)
  length = irra.MODEL["towers"]["length"]
  people = rng.permutation(irra.MODEL["classes"])[:5]
  ids = rng.permutation(np.concatenate([people, people[:3]]))
  patterns = np.random.default_rng(PEOPLE_SEED).normal(
    0.0, 0.8, (irra.MODEL["classes"], 32, 16, 3)
  )
  image = patterns[ids] + rng.normal(0.0, 0.6, (irra.BATCH, 32, 16, 3))
  text = np.zeros((irra.BATCH, length), np.int32)
  labels = np.zeros_like(text)
  mlm_text = np.zeros_like(text)
  counts = rng.integers(3, length - 2, irra.BATCH)
  counts[rng.integers(irra.BATCH)] = length - 2  # one fills the whole length
  for row, count in enumerate(counts):
    own = 1 + (5 * ids[row] + rng.integers(0, 6, count)) % irra.LAST_WORD
    other = rng.integers(1, irra.LAST_WORD + 1, count)
    words = np.where(rng.random(count) < 0.6, own, other)
    text[row, 0], text[row, count + 1] = irra.START, irra.END
    text[row, 1 : count + 1] = words
    masked = rng.random(count) < 0.3
    masked[0] |= not masked.any()
    how = rng.random(count)
    instead = rng.integers(1, irra.LAST_WORD + 1, count)
    shown = np.where(how < 0.8, irra.MASK, np.where(how < 0.9, instead, words))
    mlm_text[row] = text[row]
    mlm_text[row, 1 : count + 1] = np.where(masked, shown, words)
    labels[row, 1 : count + 1] = np.where(masked, words, 0)
  return dict(
    image=np.round(image / IMAGE_STEP).astype(np.int8),
    text=text,
    ids=ids.astype(np.int32),
    mlm_text=mlm_text,
    mlm_labels=labels,
  )


def to_torch(batch: dict[str, np.ndarray], dtype) -> dict[str, torch.Tensor]:
  """A stored batch as the model takes it."""
  made = {k: torch.from_numpy(v.astype(np.int64)) for k, v in batch.items()}
  image = irra.expand(batch["image"], IMAGE_STEP)
  return {**made, "image": torch.from_numpy(image).to(dtype)}


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
  return tensor.detach().numpy().copy()


def first_step(model, out) -> dict[str, np.ndarray]:
  """What is kept of the first batch, after backward and before the update."""
  kept = {
    f"outputs/{k}": numpy_of(v)[:2] if k.endswith("_tokens") else numpy_of(v)
    for k, v in out.items()
  }
  gradients = {k: numpy_of(v.grad) for k, v in model.named_parameters()}
  probes = np.stack([irra.probe(value) for value in gradients.values()])
  kept["gradient_probes"] = probes
  kept["gradient_norm"] = np.sqrt(np.sum(probes[:, 0] ** 2))
  return kept | {f"gradients/{name}": irra.rows(gradients[name]) for name in CHOSEN}


def run(whole, steps, batches, dtype) -> dict[str, np.ndarray]:
  """Trains the tiny model on the stored weights and batches."""
  model = irra_torch.Irra(**irra.MODEL)
  initial = {
    name: torch.from_numpy(irra.expand(value, step))
    for (name, value), step in zip(whole.items(), steps, strict=True)
  }
  model.load_state_dict(initial)
  model.to(dtype).train()
  optimizer, schedule = irra_torch.optimizer_of(model.named_parameters(), irra.BASE)
  made, terms, rates = {}, [], []
  for step, batch in enumerate(batches):
    given = to_torch(batch, dtype)
    out = model(given)
    found = irra_torch.losses(out, given, irra.SCALE)
    optimizer.zero_grad()
    found["total"].backward()
    if step == 0:
      made |= first_step(model, out)
    terms.append({k: v.item() for k, v in found.items()})
    rates.append(irra.BASE * irra_torch.epoch_factor(schedule.last_epoch))
    _check_rates(optimizer, model, rates[-1])
    optimizer.step()
    if (step + 1) % irra.STEPS_AN_EPOCH == 0:
      schedule.step()
  real = np.float32 if dtype == torch.float32 else np.float64
  for term in irra.TERMS:
    made[f"losses/{term}"] = np.array([step[term] for step in terms], real)
  final = {k: numpy_of(v) for k, v in model.named_parameters()}
  made |= {f"final/{name}": irra.rows(final[name]) for name in CHOSEN}
  made["final_probes"] = np.stack(
    [irra.probe(final[k].astype(np.float64) - initial[k].numpy()) for k in final]
  )
  made["lr"] = np.array(rates)
  return made


def _check_rates(optimizer, model, base: float) -> None:
  """The groups must train at the rates that the file will state."""
  for group, (name, _) in zip(
    optimizer.param_groups, model.named_parameters(), strict=True
  ):
    factor, decay = irra_torch.group_of(name)
    assert np.isclose(group["lr"], base * factor, rtol=1e-12, atol=0), name
    assert group["weight_decay"] == decay, name


def epoch_rates() -> dict[str, np.ndarray]:
  """60 epochs of IRRA's own base rate, read off a stepped optimizer."""
  names = ("ln_final.weight", "ln_final.bias", "classifier.weight")  # 1x, 2x, 5x
  parameters = [(name, torch.nn.Parameter(torch.zeros(1))) for name in names]
  optimizer, schedule = irra_torch.optimizer_of(parameters, irra.IRRA_BASE)
  rates = []
  for _ in range(irra_torch.TOTAL_EPOCHS):
    rates.append([group["lr"] for group in optimizer.param_groups])
    optimizer.step()
    schedule.step()
  return {
    f"epoch_lr/{factor}": column
    for factor, column in zip((1, 2, 5), np.array(rates).T, strict=True)
  }


def make_trace() -> dict[str, np.ndarray]:
  """Everything in irra_trace.npz."""
  model = irra_torch.Irra(**irra.MODEL)
  names = [name for name, _ in model.named_parameters()]
  groups = [irra_torch.group_of(name) for name in names]
  whole, steps = draw_weights(model)
  batches = [draw_batch(step) for step in range(irra.STEPS)]
  made = run(whole, steps, batches, torch.float32)
  precise = run(whole, steps, batches, torch.float64)
  return {
    "names": np.array(names),
    "weight_steps": steps,
    "image_step": np.float32(IMAGE_STEP),
    "lr_factors": np.array([factor for factor, _ in groups]),
    "weight_decays": np.array([decay for _, decay in groups]),
    **{f"weights/{name}": value for name, value in whole.items()},
    **{f"batches/{k}": np.stack([b[k] for b in batches]) for k in irra.BATCH_KEYS},
    **{f"losses64/{term}": precise[f"losses/{term}"] for term in irra.TERMS},
    **made,
    **epoch_rates(),
  }


def loss_inputs() -> dict[str, np.ndarray]:
  """Random features, labels and a classifier for the single losses."""
  rng = np.random.default_rng(LOSS_SEED)
  labels = rng.integers(1, 40, 96) * (rng.random(96) < 0.25)
  return dict(
    image=rng.normal(0.0, 1.0, (8, 16)).astype(np.float32),
    text=rng.normal(0.0, 1.0, (8, 16)).astype(np.float32),
    # Person 5 has three captions, two of one picture; person 1 two of one picture.
    ids=np.array([5, 1, 0, 5, 3, 1, 5, 6], np.int32),
    image_ids=np.array([20, 11, 30, 21, 40, 11, 20, 50], np.int32),
    weight=rng.normal(0.0, 0.001, (7, 16)).astype(np.float32),
    bias=np.zeros(7, np.float32),
    mlm_logits=rng.normal(0.0, 2.0, (96, 40)).astype(np.float32),
    mlm_labels=labels.astype(np.int32),
  )


def make_losses() -> dict[str, np.ndarray]:
  """Everything in irra_losses.npz."""
  inputs = loss_inputs()
  made = {f"inputs/{name}": value for name, value in inputs.items()}
  ids, image_ids, labels = (
    torch.from_numpy(inputs[name].astype(np.int64))
    for name in ("ids", "image_ids", "mlm_labels")
  )
  hard, soft = irra_torch.labels_of(ids), irra_torch.labels_of(ids, image_ids)
  scale = irra.SCALE

  def classified(image, text, weight, bias):
    return irra_torch.identity(image @ weight.T + bias, text @ weight.T + bias, ids)

  both = ("image", "text")
  cases = dict(
    sdm_hard=(both, lambda i, t: irra_torch.sdm(i, t, hard, scale, keepdim=False)),
    sdm_soft_released=(
      both,
      lambda i, t: irra_torch.sdm(i, t, soft, scale, keepdim=False),
    ),
    sdm_soft_rows=(both, lambda i, t: irra_torch.sdm(i, t, soft, scale, keepdim=True)),
    infonce=(both, lambda i, t: irra_torch.infonce(i, t, scale)),
    identity=((*both, "weight", "bias"), classified),
    mlm=(("mlm_logits",), lambda logits: irra_torch.mlm(logits, labels)),
  )
  for case, (names, formula) in cases.items():
    given = [torch.from_numpy(inputs[n]).double().requires_grad_() for n in names]
    value = formula(*given)
    value.backward()
    made[f"{case}/value"] = numpy_of(value)
    for name, tensor in zip(names, given, strict=True):
      made[f"{case}/d_{name}"] = numpy_of(tensor.grad)
  return made


def main() -> None:
  torch.set_num_threads(1)
  irra.FOLDER.mkdir(exist_ok=True)
  for path, make in ((irra.LOSSES, make_losses), (irra.TRACE, make_trace)):
    np.savez_compressed(path, **make())
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
  main()
