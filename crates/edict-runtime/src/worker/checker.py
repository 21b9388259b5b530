"""Looking at source text, without running it."""


class Checker:
    """Stands where a policy does, and looks at source text instead of running it."""

    root = "/"

    def load(self):
        import ast  # now, not with the first source

    def run(self, request, context):
        return '{"result":' + encode(check(request["source"])) + "}"


def check(source):
    """What `source` defines, found by parsing it; it is never executed."""
    import ast

    try:
        tree = ast.parse(source, "function.py")
    except SyntaxError as error:
        return {"fault": "syntax", "message": error.msg, "line": error.lineno, "column": error.offset, "text": (error.text or "").rstrip("\n")[:500]}
    except (ValueError, RecursionError, MemoryError) as error:
        return {"fault": "syntax", "message": str(error) or "too deeply nested to parse", "line": None, "column": None, "text": None}
    found = None
    for node in walk_top(tree.body, ast):
        if isinstance(node, ast.ClassDef) and node.name == "AIOSv1PolicyRule":
            methods = {part.name for part in walk_top(node.body, ast) if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))}
            methods |= {name for part in walk_top(node.body, ast) for name in names_bound(part, ast)}
            found = {"inherits": bool(node.bases), "has_eval": "eval" in methods, "has_management": "management" in methods}
        elif "AIOSv1PolicyRule" in names_bound(node, ast):
            found = {"inherits": True, "has_eval": False, "has_management": False}
    if found is None:
        return {"fault": "class_missing"}
    if not found["has_eval"] and not found["inherits"]:
        return {"fault": "eval_missing"}
    return {"has_management": found["has_management"], "inherits": found["inherits"]}


def walk_top(body, ast):
    """The statements that run when `body` does: also those under if, try, with and loops, not in functions."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for field in ("body", "orelse", "finalbody"):
                yield from walk_top(getattr(node, field, None) or [], ast)
            for handler in getattr(node, "handlers", []):
                yield from walk_top(handler.body, ast)


def names_bound(node, ast):
    """The names that an import or an assignment binds."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names} | {"AIOSv1PolicyRule" for alias in node.names if alias.name == "*"}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()
