"""Calls SearchRecords with nothing but what reflection tells: reflection.py ADDRESS CA CERT KEY SIGNING_KEY."""

import sys
from pathlib import Path

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "deploy/examples/python"))
from greffe_archive import Person  # noqa: E402

address, ca, cert, key, signing_key = sys.argv[1:6]
token = Person("demo", "auditor", Path(signing_key)).token("archive")
credentials = grpc.ssl_channel_credentials(*(Path(path).read_bytes() for path in (ca, key, cert)))
options = [("grpc.ssl_target_name_override", "archive")]
with grpc.secure_channel(address, credentials, options) as channel:
    database = ProtoReflectionDescriptorDatabase(channel)
    print("\n".join(sorted(database.get_services())))
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("greffe.archive.v1.ArchiveService").FindMethodByName("SearchRecords")
    question = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=question.SerializeToString,
        response_deserializer=answer.FromString,
    )
    page = call(question(page_size=2), metadata=[("greffe-person-bin", token)], timeout=30)
    print(len(page.records), "records")
