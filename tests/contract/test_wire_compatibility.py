"""The gRPC protocol only grows: releases beside each other read each other's messages.

An RPC keeps its types under its name, a message keeps its fields, and every decoder ignores what it does not know.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

import pserver_pb2 as pb
from daemon.protocol.frames import Frame
from daemon.protocol.transfer_messages import Codec, codecs, ensure_decoded
from programs import TOP
from system.releases import PREVIOUS_RELEASE

# Request and response of each RPC; "stream" is part of the type. A line is never changed and never removed: a call with
# another type gets another name. A new RPC gets a new line.
RPCS = {
    "Control.Prove": ("ProveRequest", "ProveResponse"),
    "Control.Login": ("LoginRequest", "LoginResponse"),
    "Control.Logout": ("LogoutRequest", "LogoutResponse"),
    "Control.ChangePassword": ("ChangePasswordRequest", "ChangePasswordResponse"),
    "Control.UploadFileRequest": ("stream UploadCommand", "stream TransferEvent"),
    "Control.DownloadFileRequest": ("stream DownloadCommand", "stream TransferEvent"),
    "Control.WatchTransfer": ("WatchTransferRequest", "stream TransferEvent"),
    "Control.CancelTransfer": ("CancelTransferRequest", "CancelTransferResponse"),
    "Control.ListFiles": ("ListFilesRequest", "stream ListFilesResponse"),
    "Control.ListPeers": ("ListPeersRequest", "ListPeersResponse"),
    "Control.Status": ("StatusRequest", "StatusResponse"),
    "Control.RemoveFiles": ("stream RemoveCommand", "stream TransferEvent"),
    "Transfer.GetManifest": ("GetManifestRequest", "Manifest"),
    "Transfer.DownloadFile": ("stream PieceRequest", "stream PieceResponse"),
    "Transfer.DownloadSmallFiles": ("stream DownloadSmallFilesRequest", "stream DownloadSmallFilesResponse"),
    "Transfer.UploadFile": ("stream PushRequest", "stream PushResponse"),
    "Transfer.UploadSmallFiles": ("stream UploadSmallFilesRequest", "stream UploadSmallFilesResponse"),
}
# A field of each wire type that a later release may add: number 127 is in no message.
LATER = b"\xf8\x07\x05" + b"\xf9\x07" + bytes(8) + b"\xfa\x07\x03abc" + b"\xfd\x07" + bytes(4)


def rpcs(file: FileDescriptorProto) -> dict[str, tuple[str, str]]:
    """The types of each RPC, as in RPCS."""

    def shown(type_name: str, streams: bool) -> str:
        return "stream " * streams + type_name.removeprefix(".p2p.v1.")

    return {
        f"{service.name}.{method.name}": (
            shown(method.input_type, method.client_streaming),
            shown(method.output_type, method.server_streaming),
        )
        for service in file.service
        for method in service.method
    }


def own_file() -> FileDescriptorProto:
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    return file


@pytest.fixture(scope="module")
def previous_file() -> FileDescriptorProto:
    """The protocol of the previous release."""
    name = "protobufs/pserver.proto"
    shown = subprocess.run(
        ["git", "-C", str(TOP), "show", f"{PREVIOUS_RELEASE}:{name}"], capture_output=True, check=True
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pserver.proto").write_bytes(shown.stdout)
        target = Path(folder) / "descriptors"
        well_known = files("grpc_tools") / "_proto"
        arguments = [f"--proto_path={folder}", f"--proto_path={well_known}", f"--descriptor_set_out={target}"]
        assert protoc.main(["protoc", *arguments, "pserver.proto"]) == 0
        [file] = FileDescriptorSet.FromString(target.read_bytes()).file
    return file


def test_the_table_has_every_rpc_with_its_types() -> None:
    assert rpcs(own_file()) == RPCS


@pytest.mark.history
def test_every_rpc_of_the_previous_release_has_its_types_still(previous_file: FileDescriptorProto) -> None:
    before = rpcs(previous_file)
    assert before
    assert {name: RPCS.get(name) for name in before} == before


def fields(file: FileDescriptorProto) -> dict[str, tuple[Any, ...]]:
    """What the wire format of each field depends on, by message and number; and the name of each enum's value."""
    found: dict[str, tuple[Any, ...]] = {}
    messages = [(message.name, message) for message in file.message_type]
    enums = [(enum.name, enum) for enum in file.enum_type]
    for path, message in messages:
        messages += [(f"{path}.{nested.name}", nested) for nested in message.nested_type]
        enums += [(f"{path}.{nested.name}", nested) for nested in message.enum_type]
        for field in message.field:
            kind = FieldDescriptorProto.Type.Name(field.type)
            repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
            found[f"{path} {field.number}"] = (field.name, kind, repeated, field.type_name)
    for path, enum in enums:
        found |= {f"{path} {value.number}": (value.name,) for value in enum.value}
    return found


@pytest.mark.history
def test_every_field_of_the_previous_release_has_its_number_and_its_type_still(
    previous_file: FileDescriptorProto,
) -> None:
    before, now = fields(previous_file), fields(own_file())
    assert len(before) > 100
    assert {name: now.get(name) for name in before} == before


def filled(kind: Descriptor) -> Message:
    """A message with a value in each field, also in those of its messages; of a oneof, the last field."""
    message = GetMessageClass(kind)()
    for field in kind.fields:
        if field.is_repeated:
            getattr(message, field.name).extend([_value(field), _value(field)])
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_value(field))
        else:
            setattr(message, field.name, _value(field))
    return message


def _value(field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return filled(field.message_type)
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"bytes" if field.type == FieldDescriptor.TYPE_BYTES else "text"
    return {FieldDescriptor.CPPTYPE_BOOL: True, FieldDescriptor.CPPTYPE_DOUBLE: 0.5}.get(field.cpp_type, 7)


def with_later_fields(message: Message) -> bytes:
    """The message in wire format, with unknown fields in it and in each message inside it."""
    wire = LATER
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if field.message_type is not None:
                inner = with_later_fields(item)
                assert len(inner) < 1 << 21
                wire += _varint(field.number << 3 | 2) + _varint(len(inner)) + inner
            else:
                alone = type(message)()
                if field.is_repeated:
                    getattr(alone, field.name).append(item)
                else:
                    setattr(alone, field.name, item)
                wire += alone.SerializeToString()
    return wire + LATER


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def messages_of(codec: Codec) -> Iterator[tuple[Any, Descriptor]]:
    """The decoder and the type of the request and of the response of an RPC."""
    _, service, method = codec.path.replace("/p2p.v1.", "/").split("/")
    described = pb.DESCRIPTOR.services_by_name[service].methods_by_name[method]
    yield codec.decode_request, described.input_type
    yield codec.decode_response, described.output_type


@pytest.mark.parametrize(
    "codec", [*codecs("Control").values(), *codecs("Transfer").values()], ids=lambda codec: codec.path.split(".")[-1]
)
def test_every_message_is_read_as_before_when_a_later_release_adds_fields(codec: Codec) -> None:
    for decode, kind in messages_of(codec):
        expected = filled(kind)
        read = ensure_decoded(decode(with_later_fields(expected)))
        if isinstance(read, Frame):
            blocks = [pb.Block(number=b.number, offset=b.offset, data=bytes(b.data)) for b in read.blocks]
            read = type(expected)(blocks=blocks).SerializeToString() + read.rest.SerializeToString()
            read = type(expected).FromString(read)
        # They are kept unread, as generated code does it.
        read.DiscardUnknownFields()
        assert read == expected, kind.full_name
