"""Which names in a pickle have a meaning here? An allow-list; each is done by constructors.py.

Nothing is imported on behalf of a pickle: torch's rebuild functions, numpy's array constructors and a few
harmless classes are re-implemented as data. Every other name becomes inert and is reported.
"""

from __future__ import annotations

import datetime

from workbench.checkpoints.pickled_objects import (
    Array,
    Symbol,
    array_from_buffer,
    as_bytes,
    as_dict,
    default_dict,
    dense_mkldnn,
    device_tensor,
    encoded,
    fields_of,
    first,
    meta_tensor,
    method_name,
    moment,
    numpy_type,
    parameter,
    path_text,
    quantised,
    ragged,
    reconstructed,
    scalar,
    sparse,
    tensor,
    tensor_subclass,
    tensor_v3,
    wrapped,
)
from workbench.checkpoints.tensors import ITEMSIZE

STORAGES: dict[str, str] = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}
STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")

# torch functions that hand their first argument on, possibly with a label that data do not need.
_PASSING = (
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.restore_type_tag",
    "torch.serialization._get_layout",
    "torch.device",
    "torch.Size",
    "builtins.list",
    "builtins.tuple",
    "builtins.set",
    "builtins.frozenset",
)
_DICTS = (
    "collections.OrderedDict",
    "builtins.dict",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
    "addict.addict.Dict",
    "easydict.EasyDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_FIELDS = ("argparse.Namespace", "types.SimpleNamespace", "mmengine.logging.history_buffer.HistoryBuffer")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
# numpy renamed its core in 2.0; both names occur in files.
_CORES = ("numpy.core.", "numpy._core.")
# Python 2 names that protocol 2 still writes.
_OLD = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def resolve(module: str, name: str) -> Symbol:
    """The meaning of a name: known symbols build data, all others are inert."""
    module = _OLD.get(module, module)
    full = f"{module}.{name}"
    if full in _KNOWN:
        return _KNOWN[full]
    if module in STORAGE_MODULES and name in STORAGES:
        return Symbol(full, dtype=STORAGES[name])
    if module == "torch" and (name in ITEMSIZE or name in _OTHER_TYPES):
        return Symbol(full, dtype=name)
    if module.startswith("pathlib") and name in _PATHS:
        return Symbol(full, path_text)
    if module.startswith("__torch__"):  # TorchScript: a module of the file's own, a bag of attributes
        return Symbol(full, lambda *_: fields_of(full))
    if module == "torch" and name.startswith(("per_tensor_", "per_channel_")):  # how a tensor is quantised
        return Symbol(full, lambda *_: full)
    if module == "numpy.dtypes" and name.endswith("DType"):
        return Symbol(full, lambda *_: full)
    return Symbol(full)


_OTHER_TYPES = ("qint8", "quint8", "qint32", "quint4x2", "quint2x4", "float4_e2m1fn_x2", "bits8", "bits16")


_KNOWN: dict[str, Symbol] = {
    name: Symbol(name, build)
    for name, build in {
        **dict.fromkeys(_PASSING, first),
        **dict.fromkeys(_DICTS, as_dict),
        **{name: (lambda *_, of=name: fields_of(of)) for name in _FIELDS},
        "collections.defaultdict": default_dict,
        "collections.Counter": as_dict,
        "collections.deque": lambda *args: args[0] if args and isinstance(args[0], list) else [],
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_tensor_v3": tensor_v3,
        "torch._utils._rebuild_parameter": parameter,
        "torch._utils._rebuild_parameter_with_state": parameter,
        "torch._tensor._rebuild_from_type_v2": tensor_subclass,
        "torch._utils._rebuild_meta_tensor_no_storage": meta_tensor,
        "torch._utils._rebuild_device_tensor_from_numpy": device_tensor,
        "torch.nn.parameter.Parameter": parameter,
        "torch._utils._rebuild_qtensor": quantised,
        "torch._utils._rebuild_sparse_tensor": sparse,
        "torch._utils._rebuild_sparse_csr_tensor": sparse,
        "torch._utils._rebuild_nested_tensor": ragged,
        "torch._utils._rebuild_wrapper_subclass": wrapped,
        "torch._utils._rebuild_mkldnn_tensor": dense_mkldnn,
        "numpy.dtype": numpy_type,
        "numpy.ndarray": lambda *_: Array(),
        **{f"{core}multiarray._reconstruct": lambda *_: Array() for core in _CORES},
        **{f"{core}multiarray.scalar": scalar for core in _CORES},
        **{f"{core}numeric._frombuffer": array_from_buffer for core in _CORES},
        "_codecs.encode": encoded,
        "builtins.bytes": as_bytes,
        "builtins.bytearray": as_bytes,
        "builtins.complex": complex,
        "builtins.slice": lambda *args: args,
        "builtins.object": lambda *_: fields_of("object"),
        "builtins.getattr": method_name,
        "copyreg._reconstructor": reconstructed,
        "datetime.datetime": moment(datetime.datetime),
        "datetime.date": moment(datetime.date),
        "datetime.timedelta": moment(datetime.timedelta),
    }.items()
}
