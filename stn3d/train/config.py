"""Runs MONAI bundle configs with ``key=value`` overrides."""

from __future__ import annotations

import difflib
import errno
import gc
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ComponentLocator, ConfigParser, ConfigWorkflow

from stn3d.errors import InputError, shown
from stn3d.io.texts import parse_yaml, shown_path

_bundle_logger = logging.getLogger("monai.bundle.workflows")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_COUNTS = ("epochs", "epoch_length", "val_interval", "save_interval", "log_interval")
_SEPARATOR = "::"  # MONAI's own, once "#"


def run_config(files: Sequence[str | Path], overrides: Mapping[str, Any] | None = None) -> None:
    """Run configs as ``python -m monai.bundle run`` does.

    Args:
        files: YAML or JSON configs of a MONAI bundle, merged in order; later files override
            earlier ones. Configs are executed as code: run only trusted ones.
        overrides: Values by key; ``a.b`` and ``a#b`` mean b within a.

    Raises:
        InputError: A config cannot be read, or a key is unknown; the message suggests the closest
            key.
    """
    parser = read_config(files)
    keys = {monai_key(key): value for key, value in (overrides or {}).items()}
    check_keys(parser, keys)
    check_counts(parser, keys)
    folder = Path(files[0]).parent
    logging_file = folder / "logging.conf"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # configs are code: the help says so
        _bundle_logger.disabled = True  # configs in two folders
        workflow = ConfigWorkflow(
            config_file=[str(file) for file in files],
            meta_file=str(folder / "metadata.json"),
            logging_file=str(logging_file) if logging_file.exists() else False,
            **keys,
        )
    _bundle_logger.disabled = False
    is_built = False
    try:
        workflow.initialize()
        is_built = True
        workflow.run()
    except RuntimeError as error:  # MONAI wraps errors of component constructors
        input_error = _input_error(error) or _full_disk(error)
        if input_error is None and (is_built or error.__cause__ is None):
            raise
        raise input_error or _unusable(error) from error
    finally:
        workflow.finalize()
        # gloo's threads hold Python tensors and must end before the interpreter does.
        del workflow
        gc.collect()


def read_config(files: Sequence[str | Path]) -> ConfigParser:
    """The merged configs.

    Raises:
        InputError: A config is missing or invalid.
    """
    parser = ConfigParser()
    for file in files:
        if not os.path.isfile(file):
            raise InputError(f"the config {shown_path(file)} does not exist; check the path.")
    try:
        parser.read_config([str(file) for file in files])
        if not isinstance(parser.get(), dict) or not list(_keys(parser.get(), "")):
            raise ValueError("it holds no keys")
    except RecursionError as error:
        raise InputError(
            f"invalid config in {list(map(str, files))}: it is nested too deeply."
        ) from error
    except Exception as error:  # MONAI checks no types
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"invalid config in {list(map(str, files))}: {reason}.") from error
    return parser


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value``; the value is read as YAML, and 1e-4 as a number.

    Raises:
        InputError: There is no equals sign, or the value is not valid YAML.
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InputError(f"{shown(text)} is not of the form key=value, such as epochs=10.")
    try:
        read = parse_yaml(value) if value else ""
    except ValueError as error:
        raise InputError(f"the value of {shown(text)} is not valid YAML.") from error
    return key, _number(read) if isinstance(read, str) else read


def _number(text: str) -> float | str:
    try:
        return float(text)  # YAML 1.1 reads 1e-4, without a dot, as a string
    except ValueError:
        return text


def monai_key(key: str) -> str:
    """A key in MONAI's notation, with ``::`` as separator."""
    return key.replace("#", _SEPARATOR).replace(".", _SEPARATOR)


def check_keys(parser: ConfigParser, keys: Mapping[str, Any]) -> None:
    """Check that every key is in a config or is an argument of one of its components.

    Raises:
        InputError: A key is unknown; the message suggests the closest key.
    """
    known = dict.fromkeys(_keys(parser.get(), ""))
    for key in keys:
        if key not in known and not _is_option(parser, key):
            options = [*known, *_options(parser, key.rpartition(_SEPARATOR)[0])]
            near = difflib.get_close_matches(key[:100], options, 1, 0)[0].replace(_SEPARATOR, ".")
            plain = shown(key.replace(_SEPARATOR, "."))
            raise InputError(f"the config has no key {plain}; did you mean {near!r}?")


def check_counts(parser: ConfigParser, keys: Mapping[str, Any]) -> None:
    """Check that the numbers of epochs and iterations are numbers from 1 upward.

    Raises:
        InputError: One is not.
    """
    for key in _COUNTS:
        value = keys[key] if key in keys else parser.get(key, 1)
        if isinstance(value, str) and value[:1] in ("$", "@"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1e9:
            raise InputError(f"{key} is {shown(value)} in the config; give a number from 1 upward.")
        if value != int(value):
            raise InputError(f"{key} is {value} in the config; give a whole number.")


def _full_disk(error: BaseException | None) -> InputError | None:
    """One sentence on a disk that is full, if that caused an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return InputError(
                f"cannot write the results of the training: {error.strerror}; free some space and "
                "run the same command again, which resumes."
            )
        error = error.__cause__
    return None


def _unusable(error: BaseException) -> InputError:
    """What is wrong with a config whose components cannot be made."""
    what, cause = " ".join(str(error).split()), error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = " ".join(str(cause).split())[:300]
    return InputError(
        f"the config cannot be used: {what.partition(' with keywords')[0][:200]} "
        f"({type(cause).__name__}: {reason}); correct its value."
    )


def _keys(config: Any, at: str) -> Iterator[str]:
    """All keys of a config, depth first."""
    items: Any = ()
    if isinstance(config, Mapping):
        items = config.items()
    elif isinstance(config, list):
        items = enumerate(config)
    for key, value in items:
        if key in ("imports", "_meta_"):
            continue
        name = f"{at}{_SEPARATOR}{key}" if at else str(key)
        yield name
        yield from _keys(value, name)


def _is_option(parser: ConfigParser, key: str) -> bool:
    component, _, option = key.rpartition(_SEPARATOR)
    return key in _options(parser, component) or (option == "_disabled_" and component in parser)


def _options(parser: ConfigParser, component: str) -> list[str]:
    """The arguments of a component of a config, as keys."""
    config = parser.get(component) if component else None
    if not isinstance(config, Mapping) or not isinstance(config.get("_target_"), str):
        return []
    name = config["_target_"]
    module = ComponentLocator().get_component_module_name(name)
    module = module[0] if isinstance(module, list) else module
    try:
        target: Any = locate(f"{module}.{name}" if module else name)
        constructor = target.__init__ if inspect.isclass(target) else target
        names = [name for name in inspect.signature(constructor).parameters if name != "self"]
    except (ErrorDuringImport, TypeError, ValueError):
        return []
    return [f"{component}{_SEPARATOR}{option}" for option in names]


def _input_error(error: BaseException | None) -> InputError | None:
    """The `InputError` that caused an error of MONAI's config parser, if any."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error
