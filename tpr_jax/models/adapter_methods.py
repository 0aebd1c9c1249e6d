"""The defaults of adapters, by method; every one can be given in a rule.

models/adapters.py says what a method is, and layers/adapter.py what a field is. Needs
no JAX, so that configs can name methods.
"""

from typing import Any

_COMMON = dict(rank=8, alpha_init=8.0, beta_init=1.0, m_relative=False, dropout=0.0)
_PLAIN = dict(learn_scale=False, learn_base_scale=False, scale_by_rank=True)
METHODS: dict[str, dict[str, Any]] = {
  "lora": dict(_COMMON, **_PLAIN, norm_per="", detach_norm=False, a_init="kaiming"),
  "dora": dict(
    _COMMON, **_PLAIN, norm_per="output", detach_norm=True, a_init="kaiming"
  ),
  "wora": dict(
    _COMMON,
    learn_scale=True,
    learn_base_scale=True,
    scale_by_rank=False,
    norm_per="input",
    detach_norm=False,
    a_init="normal",
  ),
}
