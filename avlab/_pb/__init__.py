"""The protobuf classes of protos/avlab/v1/executor.proto, from the committed descriptor set (``make protos``).

A descriptor set works with every protobuf runtime; generated Python modules are tied to one major version.
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_set = descriptor_pb2.FileDescriptorSet.FromString((files(__name__) / "executor.binpb").read_bytes())
_pool = descriptor_pool.DescriptorPool()
for _file in _set.file:
    _pool.Add(_file)

FILE = _pool.FindFileByName("avlab/v1/executor.proto")
SERVICE = FILE.services_by_name["Executor"]


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(FILE.message_types_by_name[name])


Batch, Message = _message("Batch"), _message("Message")
Open, Opened, Bundle, Limits = _message("Open"), _message("Opened"), _message("Bundle"), _message("Limits")
Item, Credit, Signal, Log, End = _message("Item"), _message("Credit"), _message("Signal"), _message("Log"), _message("End")
Failure, Resume, Resumed, Blob = _message("Failure"), _message("Resume"), _message("Resumed"), _message("Blob")
Receipt = _message("Receipt")
File, Source, Slot = _message("File"), _message("Source"), _message("Slot")
BlobNames, DescribeRequest = _message("BlobNames"), _message("DescribeRequest")
Description, TierReport = _message("Description"), _message("TierReport")
StatusReport, SessionStatus, QuotaStatus = _message("StatusReport"), _message("SessionStatus"), _message("QuotaStatus")
