"""
A guess at what code does outside the database, read from the source of its functions. For ``adoption``.

Nothing is called. The names in a function are resolved as far as is possible without running it; a method of an
unknown object may be that of any class in the project.
"""

import ast
import inspect
import logging
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from django.apps import apps
from django.db.models import FileField, QuerySet
from django.utils.connection import ConnectionProxy
from django.views import View

#: Modules with which code talks to anything but the database.
OUTSIDE: Final = frozenset(
    (
        *("aiohttp", "boto3", "botocore", "elasticsearch", "firebase_admin", "ftplib", "google", "grpc", "httpx"),
        *("imaplib", "kafka", "openai", "opensearchpy", "paramiko", "pika", "poplib", "pywebpush", "redis", "requests"),
        *("shutil", "slack_sdk", "smtplib", "socket", "storages", "stripe", "subprocess", "telnetlib", "twilio"),
        *("urllib.request", "urllib3", "websockets", "django.core.cache", "django.core.files", "django.core.mail"),
    )
)
#: What a library that talks to a service imports to do so.
WIRES: Final = frozenset(("aiohttp", "http.client", "httpx", "requests", "urllib3"))
#: Libraries that import one of those only for a rarely used part.
MOSTLY_INSIDE: Final = frozenset(("celery", "django", "kombu", "rest_framework"))
#: Functions of ``os`` that change files or start processes.
OF_OS: Final = frozenset(
    (
        *("kill", "link", "makedirs", "mkdir", "popen", "remove", "removedirs", "rename", "replace", "rmdir"),
        *("symlink", "system", "truncate", "unlink"),
    )
)
#: Methods of a ``Path`` that change files, and that few other classes have.
OF_PATHS: Final = frozenset(("hardlink_to", "mkdir", "rmdir", "symlink_to", "unlink", "write_bytes", "write_text"))
OF_FILE_FIELDS: Final = frozenset(("delete", "open", "save"))
#: Methods of common objects: a class of the project's is rarely meant by them.
COMMON: Final = frozenset(
    name for kind in (dict, list, set, bytes, datetime, logging.Logger, QuerySet) for name in dir(kind)
) - {"delete"}
#: At most this many unrelated classes may be meant by a method's name; with more, it could mean anything.
MOST_MEANT: Final = 4
#: How deeply calls of the project's own functions are followed.
DEEPEST: Final = 8
THE_PACKAGE: Final = Path(__file__).parent.parent


@dataclass
class _Uses:
    """What one function uses: modules with external effects, and functions of the project."""

    modules: set[str] = field(default_factory=set)
    functions: list[Any] = field(default_factory=list)


def effects_of(function: Any) -> dict[str, str]:
    """Return the modules through which a function seems to have external effects, and which function uses each."""
    found: dict[str, str] = {}
    seen: set[Any] = set()
    layer = [function]
    for _ in range(DEEPEST + 1):
        following: list[Any] = []
        for each in layer:
            code = getattr(each, "__code__", None)
            if code is None or code in seen:
                continue
            seen.add(code)
            uses = _uses_of(each)
            for module in sorted(uses.modules):
                found.setdefault(module, f"{each.__module__}.{each.__qualname__}")
            following += uses.functions
        layer = following
    return found


@cache
def _uses_of(function: Any) -> _Uses:
    uses = _Uses()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return uses
    names = dict(function.__globals__) | _of_its_class(function)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            uses.modules |= {name for name in _imported(node) if is_outside(name)}
            names |= _bound(node, names.get("__package__"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and (made := _made_by(node.value, names)):
            names |= {target.id: made for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        _add(uses, node, names)
    return uses


def _add(uses: _Uses, node: ast.AST, names: dict[str, Any]) -> None:
    """Add what a part of a function's code uses."""
    if isinstance(node, ast.Call):
        _add_call(uses, node, names)
    elif isinstance(node, ast.ExceptHandler) and node.type is not None:
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        uses.modules |= {home for each in caught for home in _outside_in(each, names)[-1:]}
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        # A function that is named and not called is called by whom it is given to.
        thing = _resolved(node, names)
        if type(thing) is FunctionType and is_own(thing.__module__):
            uses.functions.append(inspect.unwrap(thing))


def _of_its_class(function: Any) -> dict[str, Any]:
    """Return what ``self`` and ``cls`` are in a method: its class, of which an instance has the methods too."""
    *path, _ = function.__qualname__.split(".")
    owner: Any = sys.modules.get(function.__module__) if path else None
    for part in path:
        owner = vars(owner).get(part) if isinstance(owner, (ModuleType, type)) else None
    return {"self": owner, "cls": owner} if isinstance(owner, type) else {}


def _add_call(uses: _Uses, call: ast.Call, names: dict[str, Any]) -> None:
    """Add the external modules that a call uses, and the project's functions that it may refer to."""
    name = getattr(call.func, "attr", "")
    if isinstance(call.func, ast.Name) and call.func.id == "open":
        uses.modules.add("open()")
        return
    things = _known(call.func, names)
    if outside := _outside_in(call.func, names):
        if not _is_exception(things[-1]):
            uses.modules.add(outside[-1])
        return
    thing = _resolved(call.func, names)
    if thing is None:  # Some object has this method.
        _add_method(uses, call.func, name)
    elif _home(thing) in {"os", "posix", "nt"} and getattr(thing, "__name__", "") in OF_OS:
        uses.modules.add("os")
    elif _home(thing).partition(".")[0] == "pathlib" and name in OF_PATHS:
        uses.modules.add("pathlib")
    elif is_own(_home(thing)):
        uses.functions += _functions_of(thing)


def _add_method(uses: _Uses, method: ast.expr, name: str) -> None:
    """Add what a method of an unknown object may be: of a file, or of any class in the project."""
    owner = getattr(method, "value", None)
    if name in OF_FILE_FIELDS and isinstance(owner, ast.Attribute) and owner.attr in _file_fields():
        uses.modules.add(f"the file field {owner.attr}")
    elif meant := _methods().get(name):
        uses.functions += meant
    elif name in OF_PATHS:
        uses.modules.add("pathlib")


def _known(node: ast.expr, names: dict[str, Any]) -> list[Any]:
    """Return the objects that the parts of a dotted name refer to, up to the first that is not known."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    thing: Any = names.get(node.id) if isinstance(node, ast.Name) else _made_by(node, names)
    found = [] if thing is None else [thing]
    for part in reversed(parts):
        if thing is None:
            break
        if not isinstance(thing, ModuleType) and not inspect.isclass(thing):
            thing = type(thing)
        thing = inspect.getattr_static(thing, part, None)
        thing = getattr(thing, "__func__", thing)
        if thing is not None:
            found.append(thing)
    return found


def _made_by(node: ast.expr, names: dict[str, Any]) -> type | None:
    """Return the class whose instance a call makes, as far as is known."""
    made = _resolved(node.func, names) if isinstance(node, ast.Call) else None
    return made if isinstance(made, type) else None


def _resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """Return the object that a name in a function's code refers to; None: that is not known."""
    length = 1
    inner = node
    while isinstance(inner, ast.Attribute):
        length, inner = length + 1, inner.value
    found = _known(node, names)
    return found[-1] if len(found) == length else None


def _outside_in(node: ast.expr, names: dict[str, Any]) -> list[str]:
    """Return the modules with external effects that the parts of a dotted name come from."""
    homes = [_home(thing) for thing in _known(node, names)]
    return [home for home in homes if is_outside(home) or _speaks(home.partition(".")[0])]


def _home(thing: Any) -> str:
    """Return the module that an object, or its class, comes from."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    if type(thing) is ConnectionProxy:  # The default cache, or the default database.
        thing = type(vars(thing)["_connections"])
    home = getattr(thing, "__module__", None)
    return home if isinstance(home, str) else ""


def _is_exception(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)


@cache
def _speaks(library: str) -> bool:
    """Whether a library communicates with services; the project's own code is followed instead."""
    if library in MOSTLY_INSIDE or library in sys.stdlib_module_names or is_own(library):
        return False
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == library]
    held = {getattr(each, "__name__", "") for module in modules for each in _held_by(module) if _is_module(each)}
    return any(name == wire or name.startswith(f"{wire}.") for name in held for wire in WIRES)


def _held_by(thing: Any) -> list[Any]:
    """Return the attributes of a module or class without evaluating any: access would instantiate lazy objects."""
    return list(dict(vars(thing)).values())


def _is_module(thing: Any) -> bool:
    return issubclass(type(thing), ModuleType)


def _functions_of(thing: Any) -> list[Any]:
    """Return the functions that a call of an object of the project runs, overriding methods included."""
    thing = inspect.unwrap(getattr(thing, "__wrapped__", thing))
    if inspect.isclass(thing):
        return [thing.__init__]
    if isinstance(thing, property):
        return [thing.fget]
    function = getattr(thing, "__func__", thing)
    return [function, *_overriding(function)]


def _overriding(function: Any) -> list[Any]:
    for family in _families().get(getattr(function, "__name__", ""), {}).values():
        if function in family:
            return family
    return []


@cache
def _methods() -> dict[str, list[Any]]:
    """Return the methods of the project's classes by name, except for names that many unrelated classes share."""
    return {
        name: [method for family in families.values() for method in family]
        for name, families in _families().items()
        if len(families) <= MOST_MEANT and name not in COMMON
    }


@cache
def _families() -> dict[str, dict[type, list[Any]]]:
    """Return, by name, the methods of the project's classes; those that override one another are a family."""
    found: dict[str, dict[type, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for owner in _classes():
        for name, member in dict(vars(owner)).items():
            function = member.__func__ if type(member) in {classmethod, staticmethod} else member
            function = function.fget if type(function) is property else function
            if type(function) is FunctionType and not name.startswith("__"):
                family = [each for each in owner.__mro__ if name in vars(each) and is_own(each.__module__)]
                found[name][family[-1]].append(inspect.unwrap(function))
    return found


def _classes() -> Iterator[type]:
    for name, module in list(sys.modules.items()):
        if is_own(name):
            for thing in _held_by(module):
                # A task does not call the methods of a view.
                if issubclass(type(thing), type) and thing.__module__ == name and not issubclass(thing, View):
                    yield thing


@cache
def _file_fields() -> frozenset[str]:
    """Return the names of the file fields of the project's models."""
    return frozenset(
        each.name
        for model in apps.get_models()
        if is_own(model.__module__)
        for each in model._meta.get_fields()
        if isinstance(each, FileField)
    )


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module] if node.module else []
    return [alias.name for alias in node.names]


def _bound(node: ast.Import | ast.ImportFrom, package: str | None) -> dict[str, Any]:
    """Return the names that an import inside a function binds."""
    if isinstance(node, ast.Import):
        whole = {alias.asname or alias.name.partition(".")[0]: alias for alias in node.names}
        return {name: _module(alias.name if alias.asname else name) for name, alias in whole.items()}
    module = node.module or ""
    if node.level:
        parts = (package or "").split(".")
        module = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
    held = vars(_module(module)) if _module(module) else {}
    return {alias.asname or alias.name: held.get(alias.name) for alias in node.names}


@cache
def _module(name: str) -> ModuleType | None:
    """Return a module, which is imported for this if it is the project's; None: it is not imported."""
    if name not in sys.modules and is_own(name.partition(".")[0]):
        with suppress(Exception):  # Whatever the project's module raises.
            import_module(name)
    return sys.modules.get(name)


def is_outside(module: str) -> bool:
    """Whether code talks to anything but the database through a module."""
    return module.partition(".")[0] in OUTSIDE or any(
        module == name or module.startswith(f"{name}.") for name in OUTSIDE
    )


@cache
def is_own(module: str) -> bool:
    """Whether a module is the project's: not of a library, and not Django's or Python's."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return bool(file) and is_own_path(Path(str(file)))


def is_own_path(path: Path) -> bool:
    """Whether a file is the project's."""
    is_librarys = any(part in {"site-packages", "dist-packages"} or part.startswith("python3") for part in path.parts)
    return not is_librarys and THE_PACKAGE not in path.parents
