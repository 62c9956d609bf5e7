"""What a runner gets: walks a pipeline's portable proto, and tells what is wrong with it."""

from __future__ import annotations

import base64
import binascii
import bz2
import zlib
from collections.abc import Iterable
from typing import Any

from apache_beam.coders import Coder
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.pipeline_context import PipelineContext

PRIMITIVES = common_urns.primitives
PARDO, GROUP = PRIMITIVES.PAR_DO.urn, PRIMITIVES.GROUP_BY_KEY.urn
# Steps that a runner carries out.
STEPS = {PARDO, GROUP, PRIMITIVES.IMPULSE.urn, PRIMITIVES.FLATTEN.urn}
# What only holds such steps; a runner may know it or look into it. The root has no name.
PARTS = {
    *("", "beam:transform:generic_composite:v1", "beam:transform:pickled_python:v1"),
    common_urns.composites.RESHUFFLE.urn,
    common_urns.composites.COMBINE_PER_KEY.urn,
    common_urns.combine_components.COMBINE_GROUPED_VALUES.urn,
}
MIN_RAM = common_urns.resource_hints.MIN_RAM_BYTES.urn
DOCKER = common_urns.environments.DOCKER.urn
# A DoFn with all that it knows: the job's settings, and no list that grows with the catalogue.
MOST_BYTES = 8_000


def steps(proto: api.Pipeline) -> Iterable[api.PTransform]:
    """The transforms that hold no others."""
    return (one for one in proto.components.transforms.values() if not one.subtransforms)


def payload_bytes(proto: api.Pipeline) -> dict[str, int]:
    """Bytes of the payload of each transform that has one."""
    all_of_them = proto.components.transforms.values()
    return {one.unique_name: len(one.spec.payload) for one in all_of_them if one.spec.payload}


def grown(small: api.Pipeline, large: api.Pipeline, by: int = 64) -> dict[str, int]:
    """By how many bytes payloads of the same pipeline have grown, where that is more than `by`."""
    before, after = payload_bytes(small), payload_bytes(large)
    assert before.keys() == after.keys()
    return {name: after[name] - before[name] for name in after if after[name] - before[name] > by}


def min_ram(proto: api.Pipeline) -> dict[str, int]:
    """The memory that steps ask for, in bytes."""
    asked = {
        name: int(environment.resource_hints[MIN_RAM])
        for name, environment in proto.components.environments.items()
        if MIN_RAM in environment.resource_hints
    }
    return {
        one.unique_name: asked[one.environment_id]
        for one in steps(proto)
        if one.environment_id in asked
    }


def side_inputs(proto: api.Pipeline) -> dict[str, list[str]]:
    """The steps whose results each step is given beside its elements."""
    makers = {
        collection: one.unique_name for one in steps(proto) for collection in one.outputs.values()
    }
    found = {}
    for one in steps(proto):
        if one.spec.urn == PARDO:
            tags = api.ParDoPayload.FromString(one.spec.payload).side_inputs
            if tags:
                found[one.unique_name] = [makers[one.inputs[tag]] for tag in sorted(tags)]
    return found


def graph_problems(
    proto: api.Pipeline, image: str, *, may_grow: Iterable[str] = (), most_bytes: int = MOST_BYTES
) -> list[str]:
    """What a runner of images could not do with a pipeline, or should not be asked to.

    Args:
      image: that every worker must have.
      may_grow: transforms whose payload may be larger than `most_bytes`.
    """
    return [
        *_urn_problems(proto),
        *_key_problems(proto),
        *_environment_problems(proto, image),
        *_payload_problems(proto, set(may_grow), most_bytes),
    ]


def _urn_problems(proto: api.Pipeline) -> Iterable[str]:
    for one in proto.components.transforms.values():
        known = PARTS if one.subtransforms else STEPS
        # A part without steps of its own, such as a Create that Beam has put another in place of.
        if one.spec.urn not in known and not (one.spec.urn in PARTS and not one.outputs):
            yield f"{one.unique_name}: {one.spec.urn} is no step that runners know"


def _key_problems(proto: api.Pipeline) -> Iterable[str]:
    context = PipelineContext(proto.components)
    for one in steps(proto):
        if one.spec.urn == GROUP:
            (collection,) = one.inputs.values()
            coder_id = proto.components.pcollections[collection].coder_id
            coder: Any = context.coders.get_by_id(coder_id)
            if not coder.is_kv_coder() or not coder.key_coder().is_deterministic():
                yield f"{one.unique_name}: keys of {_named(coder)} are not always the same bytes"


def _named(coder: Coder) -> str:
    return str(coder.key_coder() if coder.is_kv_coder() else coder)


def _environment_problems(proto: api.Pipeline, image: str) -> Iterable[str]:
    for name, environment in proto.components.environments.items():
        if environment.urn != DOCKER:
            yield f"{name}: {environment.urn} is no image"
            continue
        found = api.DockerPayload.FromString(environment.payload).container_image
        if found != image:
            yield f"{name}: its image is {found}"
    for one in steps(proto):
        if one.spec.urn == PARDO and one.environment_id not in proto.components.environments:
            yield f"{one.unique_name}: has no environment"


def _payload_problems(proto: api.Pipeline, may_grow: set[str], most_bytes: int) -> Iterable[str]:
    for name, size in payload_bytes(proto).items():
        if size > most_bytes and name not in may_grow:
            yield f"{name}: a payload of {size} bytes"
    for one in proto.components.transforms.values():
        pickled = one.spec.payload
        if one.spec.urn == PARDO:
            payload = api.ParDoPayload.FromString(one.spec.payload)
            pickled = payload.do_fn.payload
            for tag, side in payload.side_inputs.items():
                if tag not in one.inputs:
                    yield f"{one.unique_name}: nothing is given as {tag}"
                if b"__main__" in unpacked(side.view_fn.payload):
                    yield f"{one.unique_name}: a view of __main__"
        if b"__main__" in unpacked(pickled):
            yield f"{one.unique_name}: something of __main__, which workers do not have"


def unpacked(payload: bytes) -> bytes:
    """What was pickled, as bytes that can be searched; nothing is unpickled.

    >>> unpacked(base64.b64encode(bz2.compress(b"abc"))), unpacked(b"plain")
    (b'abc', b'plain')
    """
    try:
        packed = base64.b64decode(payload, validate=True)
    except binascii.Error:
        packed = payload
    for unpack in (bz2.decompress, zlib.decompress):
        try:
            return unpack(packed)
        except (OSError, ValueError, zlib.error):
            continue
    return payload
