"""Eight virtual CPU devices for every test; set before anything imports JAX."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
_flag = "--xla_force_host_platform_device_count=8"
if _flag not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_flag}".strip()
# No test may reach the network: hub look-ups fail at once.
os.environ["HF_HUB_OFFLINE"] = "1"
