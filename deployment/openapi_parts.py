"""Parts that every path of the OpenAPI document is made of: answers, errors, schemas."""

TEXT = {"type": "string"}
BINARY = {"type": "string", "format": "binary"}
REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}
# Headers: name -> (description, schema)
REQUEST_ID_HEADER = {"X-Request-ID": ("the request's id, which the log names too", REQUEST_ID)}
RETRY_AFTER = {
    "Retry-After": ("seconds to wait before trying again", {"type": "integer", "minimum": 1})
}
WWW_AUTHENTICATE = {"WWW-Authenticate": ("how to send the token", {"const": "Bearer"})}
ALLOW = {"Allow": ("the methods that the path takes, separated by commas", TEXT)}
FORBIDDEN = "The host is not the server's, or the page another's."
INTERNAL = "The server failed to answer this request."


def get(operation_id, summary, answer, security, errors):
    """The description of a path that takes GET, a dict.

    Args:
        operation_id: str, the operation's name in generated clients.
        summary: str, what it is for.
        answer: dict, the answer with status 200.
        security: dict with the entry "security" where the path needs the token, else empty.
        errors: dict, status -> answer.
    """
    return {
        "get": {
            "operationId": operation_id,
            "summary": summary,
            **security,
            "responses": {"200": answer, **errors},
        }
    }


def answer_of(description, schema, examples=None, media_type="application/json", headers=None):
    """The description of an answer, a dict.

    Args:
        description: str, for people.
        schema: dict, the schema of its body.
        examples: dict of examples, or None.
        media_type: str, its Content-Type.
        headers: dict, name of each further header -> (description, schema), or None.
    """
    content = {"schema": schema, "examples": examples} if examples else {"schema": schema}
    all_headers = {**REQUEST_ID_HEADER, **(headers or {})}
    return {
        "description": description,
        "headers": {
            header_name: {"description": meaning, "required": True, "schema": header_schema}
            for header_name, (meaning, header_schema) in all_headers.items()
        },
        "content": {media_type: content},
    }


def error_answer(description, *codes, headers=None):
    """The description of an answer that is an `Error`, a dict.

    Args:
        description: str, for people.
        codes: str, the codes that it may have.
        headers: as of `answer_of`.
    """
    return answer_of(description, error_schema(*codes), headers=headers)


def forbidden():
    """Status -> answer to other hosts and pages, a dict."""
    return {"403": error_answer(FORBIDDEN, "forbidden")}


def internal():
    """Status -> answer to a request at which the server fails, a dict."""
    return {"500": error_answer(INTERNAL, "internal")}


def error_schema(*codes):
    """The schema of an `Error`, a dict.

    Args:
        codes: str, the codes that it may have.
    """
    return {"allOf": [reference("Error"), {"properties": {"error": code_schema(*codes)}}]}


def code_schema(*codes):
    """The schema of an error's code and message, a dict.

    Args:
        codes: str, the codes that it may have.
    """
    return object_schema(code={"enum": list(codes)}, message=TEXT)


def object_schema(optional=None, **properties):
    """The schema of an object with exactly these properties, a dict.

    Args:
        optional: dict, name -> schema of the properties that it need not have, or None.
        properties: name -> schema of those that it has.
    """
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": {**properties, **(optional or {})},
    }


def reference(name):
    """A reference to one of the document's schemas, a dict.

    Args:
        name: str.
    """
    return {"$ref": f"#/components/schemas/{name}"}
