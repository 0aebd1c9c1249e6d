import pytest


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
  """The servers of these tests are on this machine."""
  for name in ("http_proxy", "https_proxy", "all_proxy"):
    monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv(name.upper(), raising=False)
