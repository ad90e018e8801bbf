"""The package itself: its types, its generated code, and its wheel."""

from __future__ import annotations

import importlib
import pathlib
import subprocess
import sys
import zipfile

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

PACKAGE = pathlib.Path(__file__).parents[1]
PROTO = PACKAGE.parents[1] / "proto"


def run(*command: str) -> str:
    result = subprocess.run([sys.executable, "-m", *command], cwd=PACKAGE, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_types(checker: str) -> None:
    """The package, and a user's program, by the configuration in pyproject.toml."""
    for framework in ("agents", "langchain_core", "llama_index.core", "pydantic_ai", "agent_framework"):
        pytest.importorskip(framework)
    run(checker)


def test_the_checkers_see_mistakes(tmp_path: pathlib.Path) -> None:
    """The methods are made of descriptions of calls: their arguments and answers must still be known."""
    program = tmp_path / "wrong.py"
    program.write_text(
        "import chatledger\n"
        "client = chatledger.Client()\n"
        "client.sessions.get()\n"
        "client.messages.append('id', 'robot', 'text')\n"
        "client.sessions.create().missing\n"
        "text: str = client.messages.append('id', 'user').seq\n"
        "client.messages.append('id', 'user', 'text', payload='text')\n"
        "client.messages.writer().append('id', 'user', 'text', selected='text')\n"
        "client.messages.list('id', limit='5')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", str(program)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    found = [int(line.split(":")[1]) for line in result.stdout.splitlines() if ": error: " in line]
    assert found == [3, 4, 5, 6, 7, 8, 9], result.stdout


def test_the_generated_code_is_that_of_the_protocol(tmp_path: pathlib.Path) -> None:
    files = sorted(PROTO.glob("chatledger/v1/*.proto"))
    out = tmp_path / "set.binpb"
    run("grpc_tools.protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", *map(str, files))
    compiled = {file.name: plain(file) for file in FileDescriptorSet.FromString(out.read_bytes()).file}
    assert len(compiled) == 8
    for name, file in compiled.items():
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        ours = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        assert plain(ours) == file, f"{name} has changed: run scripts/generate.sh"


def plain(file: FileDescriptorProto) -> FileDescriptorProto:
    """The description without the names in JSON, which only one of the two has."""
    for message in file.message_type:
        for nested in (message, *message.nested_type):
            for field in nested.field:
                field.ClearField("json_name")
    return file


def test_the_wheel_needs_no_compiler(tmp_path: pathlib.Path) -> None:
    """The wheel is built without network, and has the generated code, types and licences in it."""
    run("pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("chatledger-*-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "v1/message_pb2.py", "v1/message_pb2.pyi", "v1/message_pb2_grpc.py", "langchain.py"):
        assert f"chatledger/{name}" in names
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= {pathlib.PurePath(name).name for name in names}
