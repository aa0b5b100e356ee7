"""Additions to the OpenAPI document: error responses, links and examples."""

from typing import Any

from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.extensions import OpenApiSerializerExtension

from core.examples import EXAMPLES, KEY_PROBLEMS, OWN_PROBLEMS, PROBLEMS

PROBLEM = {
    "type": "object",
    "description": "An error, as defined by RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "description": "`about:blank`, or `urn:shopwire:problem:` and a name that clients can act on.",
            "example": "urn:shopwire:problem:out-of-stock",
        },
        "title": {"type": "string", "example": "Out of stock"},
        "status": {"type": "integer", "example": 409},
        "detail": {"type": "string", "example": "Not enough stock for this order. Nothing was ordered."},
        "errors": {
            "type": "array",
            "description": "The errors, each with the part of the request that it is about.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "A JSON pointer into the body.",
                        "example": "/cart_id",
                    },
                    "detail": {"type": "string"},
                    "product": {"type": "integer", "description": "Out of stock: the id of the product."},
                    "requested": {"type": "integer", "description": "Out of stock: the quantity in the cart."},
                    "available": {"type": "integer", "description": "Out of stock: the quantity available."},
                },
            },
        },
    },
}


def describe_problems(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add problem documents, with examples, as the error responses of every call."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = PROBLEM
    answer = {
        "description": "Any other error, as a problem document.",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path, operations in result["paths"].items():
        for operation in operations.values():
            for status, (description, documents) in sorted(_problems_of(path, operation).items()):
                examples = {name: {"value": document} for name, document in documents.items()}
                schema = {"$ref": "#/components/schemas/Problem"}
                content = {"application/problem+json": {"schema": schema, "examples": examples}}
                operation["responses"].setdefault(str(status), {"description": description, "content": content})
            operation["responses"].setdefault("default", answer)
    return result


def _problems_of(path: str, operation: dict[str, Any]) -> dict[int, Any]:
    """Return the problems of a call by status: those of its kind, and its own."""
    found: dict[int, Any] = {}
    if "requestBody" in operation or any(each["in"] == "query" for each in operation.get("parameters", [])):
        found[400] = PROBLEMS[400]
    if {} not in operation.get("security", [{}]):
        found[401] = PROBLEMS[401]
    if "{" in path:
        found[404] = PROBLEMS[404]
    if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", [])):
        found |= KEY_PROBLEMS
    return found | OWN_PROBLEMS.get(operation["operationId"], {})


def add_examples(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add examples of request and response bodies that the view itself does not give."""
    for path in result["paths"].values():
        for operation in path.values():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media in part.get("content", {}).values():
                    name = media["schema"].get("$ref", "").rpartition("/")[2]
                    example = _example_of(name)
                    if example is not None and not media.keys() & {"example", "examples"}:
                        media["example"] = example
    return result


def _example_of(name: str) -> Any:
    if name.startswith("Paginated") and name.endswith("List"):
        item = EXAMPLES.get(name.removeprefix("Paginated").removesuffix("List"))
        return item and {"count": 1, "next": None, "previous": None, "results": [item]}
    return EXAMPLES.get(name)


CART = {"cart_id": "$response.body#/id"}
SAME_CART = {"cart_id": "$request.path.cart_id"}
LINE = SAME_CART | {"item_id": "$response.body#/id"}
ORDER = {"id": "$response.body#/id"}
FIRST = {"id": "$response.body#/results/0/id"}
#: Where the values of a response can be used next: by operation and status, ``parameter: expression`` for operations.
#: ``body`` is the cart that the other operation's body names.
LINKS: dict[tuple[str, str], dict[str, dict[str, str]]] = {
    ("carts_create", "201"): {
        "carts_retrieve": CART,
        "carts_destroy": CART,
        "carts_items_create": CART,
        "orders_create": {"body": "$response.body#/id"},
    },
    ("carts_items_create", "201"): {
        "carts_items_partial_update": LINE,
        "carts_items_destroy": LINE,
        "carts_retrieve": SAME_CART,
        "orders_create": {"body": "$request.path.cart_id"},
    },
    ("orders_create", "201"): {
        "orders_retrieve": ORDER,
        "orders_tasks_retrieve": ORDER,
        "orders_cancel_create": ORDER,
    },
    ("orders_list", "200"): {
        "orders_retrieve": FIRST,
        "orders_tasks_retrieve": FIRST,
        "orders_cancel_create": FIRST,
    },
    ("products_list", "200"): {"products_retrieve": FIRST},
    ("collections_list", "200"): {"collections_retrieve": FIRST},
}


def allow_blanks_once(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Drop a duplicate empty string that a pattern already allows: it would match twice, which is invalid."""
    for component in result["components"]["schemas"].values():
        for field in component.get("properties", {}).values():
            if {"type": "string", "maxLength": 0} in field.get("oneOf", []):
                field.update(field.pop("oneOf")[0])
    return result


def name_null_as_a_type(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Rewrite REST framework's nullable fields of pages from OpenAPI 3.0 to 3.1."""
    for component in result["components"]["schemas"].values():
        for field in component.get("properties", {}).values():
            if field.pop("nullable", False):
                field["type"] = [field["type"], "null"]
    return result


def forbid_nul_in_queries(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Exclude NUL from every query string parameter; :class:`web.problems.ProblemMiddleware` refuses it."""
    for path in result["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                schema = parameter.get("schema", {})
                if (
                    parameter["in"] == "query"
                    and _is_text(schema)
                    and not schema.keys() & {"pattern", "format", "enum"}
                ):
                    schema["pattern"] = NO_NUL
    return result


def _is_text(schema: dict[str, Any]) -> bool:
    """Whether a schema is a string, possibly nullable."""
    kind = schema.get("type", [])
    return "string" in ([kind] if isinstance(kind, str) else kind)


def fill_lists_in_queries(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Require at least one item in list parameters: no item and one empty string look the same."""
    for path in result["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query" and parameter.get("schema", {}).get("type") == "array":
                    parameter["schema"]["minItems"] = 1
    return result


def add_links(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add links from responses to the calls that use their objects."""
    for path in result["paths"].values():
        for operation in path.values():
            for (source, status), targets in LINKS.items():
                if operation["operationId"] == source:
                    operation["responses"][status]["links"] = {
                        target: _link(target, dict(values)) for target, values in targets.items()
                    }
    return result


def _link(operation_id: str, parameters: dict[str, str]) -> dict[str, Any]:
    link: dict[str, Any] = {"operationId": operation_id}
    if cart := parameters.pop("body", None):
        link["requestBody"] = {"cart_id": cart}
    if parameters:
        link["parameters"] = parameters
    return link


class BearerScheme(SimpleJWTScheme):  # type: ignore[no-untyped-call]
    """Describes :class:`accounts.authentication.BearerAuthentication` to the document."""

    target_class = "accounts.authentication.BearerAuthentication"
    name = "bearer"


#: Every incoming text must match it; see web/parsing.py.
NO_NUL = r"^[^\x00]*$"


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Declares in the document that requests have exactly the named fields."""

    target_class = "web.fields.StrictSerializer"
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        schema = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        if direction == "response":
            return schema
        for field in schema.get("properties", {}).values():
            if _is_text(field) and not field.keys() & {"pattern", "format", "enum"}:
                field["pattern"] = NO_NUL
        needed = [*schema.get("required", []), *getattr(self.target, "needed_in_patch", ())]
        return {**schema, **({"required": sorted(set(needed))} if needed else {}), "additionalProperties": False}
