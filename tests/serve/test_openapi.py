"""The description is OpenAPI 3.1, and of all that the API has."""

import pytest

from tpr_jax.serve import openapi


@pytest.mark.parametrize("needs_token", [False, True])
def test_it_is_openapi_3_1(needs_token):
  library = pytest.importorskip("openapi_spec_validator")
  document = openapi.document(needs_token)
  library.validate(document, cls=library.OpenAPIV31SpecValidator)


def test_only_what_tells_nothing_needs_no_token():
  document = openapi.document(True)
  free = {
    path
    for path, operations in document["paths"].items()
    for operation in operations.values()
    if isinstance(operation, dict) and operation.get("security") == []
  }
  assert document["security"] and free == {"/health", "/openapi.json"}
