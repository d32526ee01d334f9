"""The committed descriptor set says what protos/ say."""

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parents[2]


def test_committed_descriptors_match_the_protos(tmp_path: Path) -> None:
    made = tmp_path / "executor.binpb"
    protos = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "protos", f"--descriptor_set_out={made}", *protos]
    subprocess.run(command, cwd=ROOT, check=True)
    committed = FileDescriptorSet.FromString((ROOT / "avlab/_pb/executor.binpb").read_bytes())
    assert FileDescriptorSet.FromString(made.read_bytes()) == committed, "protos/ changed: run make protos"
