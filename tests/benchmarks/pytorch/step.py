"""One training step of CFAM in PyTorch: masked words, loss, gradient, Adam, schedule.

Adam with L2 in groups of parameters, as the config says (tpr_jax/optim.py), fused where
PyTorch has it; no clipping, no Muon. It computes no norm of the gradient, as ours does
for its log: that is not counted against PyTorch.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tests.benchmarks.pytorch import cfam, weights
from tpr_jax import objectives, optim
from tpr_jax.core import tree


class Step:
  """Steps from our parameters on; its state goes on from call to call.

  Args:
    config: of CFAM, with Adam and L2 decay.
    like: our Flax model; `params`: its parameters.
    masking: of the words (program.masking); `steps`, `per_epoch`: of the schedule.
    device: "cpu" or "cuda".
    autocast: bfloat16 compute; else float32.
    compiled: by torch.compile.

  Raises:
    ValueError: an optimizer or a vocabulary that this step has not got.
  """

  def __init__(
    self,
    config: Any,
    like: Any,
    params: Mapping[str, Any],
    *,
    masking: Mapping[str, Any],
    steps: int = 1000,
    per_epoch: int = 100,
    device: str = "cpu",
    autocast: bool = False,
    compiled: bool = False,
  ):
    _check(config.optim, masking)
    self.device, self._autocast, self._masking = device, autocast, masking
    active = objectives.active(config.losses)
    self.model = cfam.Cfam(like, active, config.objective.temperature)
    self.model.load_state_dict(weights.state(params))
    self.model.to(device).remat(bool(like.visual.remat))
    self._loss = torch.compile(self.model) if compiled else self.model
    self.optimizer = _adam(config.optim, self.model, tree.names(params))
    factor = _schedule(config.optim.schedule, steps, per_epoch)
    self._rate = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
    self._random = torch.Generator(device).manual_seed(0)

  def on_device(self, rows: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    """A batch of ours -> (image, text, ids)."""
    image, text, ids = (torch.tensor(rows[k]) for k in ("image", "text", "ids"))
    return tuple(x.to(self.device) for x in (image, text.long(), ids.long()))

  def loss(self, batch: tuple[torch.Tensor, ...]):
    """(loss, {name: term}), for `backward`."""
    image, text, ids = batch
    if self._masking["share"]:
      text = masked(text, self._masking, self._random)
    with torch.autocast(self.device, torch.bfloat16, enabled=self._autocast):
      return self._loss(image, text, ids)

  def __call__(self, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """One step; the loss."""
    self.optimizer.zero_grad(set_to_none=True)
    loss, _ = self.loss(batch)
    loss.backward()
    self.optimizer.step()
    self._rate.step()
    return loss.detach()

  def run(self, batch: tuple[torch.Tensor, ...], steps: int) -> float:
    """The loss of the last of so many steps, once it has ended."""
    for _ in range(steps):
      loss = self(batch)
    return float(loss)  # waits for a GPU


def _check(config: Any, masking: Mapping[str, Any]) -> None:
  if config.muon or config.clip or config.decay != "l2" or config.freeze:
    raise ValueError("the PyTorch step has Adam with L2 decay, and nothing beside it")
  barred = {masking["mask_id"], *masking["special_ids"]}
  if masking["share"] and min(barred) != masking["vocab_size"] - len(barred):
    raise ValueError("the PyTorch step expects the special tokens to be the last ones")


def _adam(config: Any, model: torch.nn.Module, names: list[str]) -> torch.optim.Adam:
  """Adam over groups of parameters with the same factors on rate and decay."""
  groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
  parameters = dict(model.named_parameters())
  for name in names:
    factors = optim.group_factors(config.groups, name)
    groups.setdefault(factors, []).append(parameters.pop(weights.torch_name(name)))
  if parameters:
    raise ValueError(f"{next(iter(parameters))}: no parameter of ours has this name")
  return torch.optim.Adam(
    [
      dict(params=group, lr=config.lr * rate, weight_decay=config.weight_decay * decay)
      for (rate, decay), group in groups.items()
    ],
    betas=(config.b1, config.b2),
    eps=config.eps,
    fused=True,
  )


def _schedule(config: Any, steps: int, per_epoch: int):
  """Step -> factor on the rate: linear warm-up, then a cosine to 0."""
  if (config.kind, config.per, config.end) != ("cosine", "step", 0.0):
    raise ValueError("the PyTorch step has a cosine to 0 that changes at every step")
  warm = config.warmup_epochs * per_epoch

  def factor(step: int) -> float:
    if step < warm:
      return config.warmup_from + (1 - config.warmup_from) * step / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))

  return factor


def masked(
  text: torch.Tensor, rules: Mapping[str, Any], random: torch.Generator
) -> torch.Tensor:
  """int [B, L] -> the same with words masked by BERT's rule (losses/mlm.py)."""
  draw = lambda: torch.rand(text.shape, generator=random, device=text.device)
  places = torch.arange(text.shape[1], device=text.device)
  word = (places >= 1) & (places < text.argmax(1, keepdim=True))
  chosen, kind = word & (draw() < rules["share"]), draw()
  others = rules["vocab_size"] - 1 - len(rules["special_ids"])
  drawn = torch.randint(others, text.shape, generator=random, device=text.device)
  new = torch.where(kind < rules["mask"] + rules["random"], drawn, text)
  new = torch.where(kind < rules["mask"], rules["mask_id"], new)
  return torch.where(chosen, new, text)
