"""Drives JetStream with nats-py: streams, consumers, key-value and object stores, services.

Each check prints `ok NAME` or `not ok NAME: why`. Every check makes its own streams.
"""

import asyncio
import json
import os
import signal
import subprocess
import time

import nats
import nats.micro
from nats.errors import Error, NoServersError
from nats.js import api
from nats.js import errors as js_errors

from checks import check, connect, main


async def until(what, probe):
    """Asks until the answer is true, at most five seconds."""
    end = time.monotonic() + 5
    while not await probe():
        assert time.monotonic() < end, f"waited in vain: {what}"
        await asyncio.sleep(0.02)


async def raises(kind, awaitable, code=None):
    try:
        await awaitable
    except kind as error:
        assert code is None or error.err_code == code, error
        return error
    raise AssertionError(f"no {kind.__name__}")


@check
async def publish_acks_and_stream_info():
    nc = await connect()
    js = nc.jetstream()
    info = await js.add_stream(name="PY1", subjects=["py1.>"])
    assert info.config.name == "PY1" and info.state.messages == 0
    for number in range(1, 101):
        ack = await js.publish(f"py1.{number % 3}", str(number).encode())
        assert (ack.stream, ack.seq, ack.duplicate) == ("PY1", number, None)
    info = await js.stream_info("PY1", subjects_filter=">")
    assert info.state.messages == 100 and len(info.state.subjects) == 3
    assert sum(info.state.subjects.values()) == 100
    await raises(js_errors.NoStreamResponseError, js.publish("py1x.none", b""))
    await nc.close()


@check
async def asynchronous_publishes_are_all_acked():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY2", subjects=["py2"])
    futures = [await js.publish_async("py2", str(n).encode()) for n in range(500)]
    acks = await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert [ack.seq for ack in acks] == list(range(1, 501))
    await nc.close()


@check
async def expectations_and_duplicates():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY3", subjects=["py3"])
    first = await js.publish("py3", b"a", headers={"Nats-Msg-Id": "one"})
    again = await js.publish("py3", b"a", headers={"Nats-Msg-Id": "one"})
    assert (again.seq, again.duplicate) == (first.seq, True)
    bad = js.publish("py3", b"b", headers={"Nats-Expected-Last-Sequence": "9"})
    await raises(js_errors.BadRequestError, bad, 10071)
    bad = js.publish("py3", b"b", headers={"Nats-Expected-Stream": "OTHER"})
    await raises(js_errors.BadRequestError, bad, 10060)
    await nc.close()


@check
async def streams_are_listed_updated_purged_and_deleted():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY4", subjects=["py4.*"])
    for number in range(10):
        await js.publish(f"py4.{number % 2}", b"x")
    config = (await js.stream_info("PY4")).config
    config.max_msgs = 8
    info = await js.update_stream(config)
    assert info.config.max_msgs == 8
    assert "PY4" in [stream.config.name for stream in await js.streams_info()]
    assert await js.find_stream_name_by_subject("py4.1") == "PY4"
    assert await js.purge_stream("PY4", subject="py4.0")
    assert (await js.stream_info("PY4")).state.messages == 4
    assert await js.purge_stream("PY4", keep=1)
    assert (await js.stream_info("PY4")).state.messages == 1
    assert await js.delete_stream("PY4")
    await raises(js_errors.NotFoundError, js.stream_info("PY4"), 10059)
    await nc.close()


@check
async def single_messages_are_read_and_deleted():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY5", subjects=["py5.*"], allow_direct=True)
    await js.publish("py5.a", b"one", headers={"K": "v"})
    await js.publish("py5.b", b"two")
    message = await js.get_msg("PY5", 1)
    assert (message.subject, message.data, message.headers["K"]) == ("py5.a", b"one", "v")
    message = await js.get_last_msg("PY5", "py5.b")
    assert (message.seq, message.data) == (2, b"two")
    message = await js.get_msg("PY5", seq=1, direct=True)
    assert message.data == b"one" and message.seq == 1
    assert await js.delete_msg("PY5", 1)
    await raises(js_errors.NotFoundError, js.get_msg("PY5", 1), 10037)
    await raises(js_errors.NotFoundError, js.get_msg("PY5", 1, direct=True))
    await nc.close()


@check
async def pull_consumers_fetch_and_ack():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY6", subjects=["py6"])
    for number in range(250):
        await js.publish("py6", str(number).encode())
    sub = await js.pull_subscribe("py6", "worker")
    got = []
    while len(got) < 250:
        for message in await sub.fetch(100, timeout=5):
            got.append(int(message.data))
            await message.ack()
    assert got == list(range(250))
    async def settled():
        info = await sub.consumer_info()
        return (info.num_ack_pending, info.num_pending, info.ack_floor.stream_seq) == (0, 0, 250)
    await until("all acked", settled)
    await raises(asyncio.TimeoutError, sub.fetch(1, timeout=0.3))
    await nc.close()


@check
async def workers_share_a_pull_consumer():
    clients = [await connect() for _ in range(4)]
    js = clients[0].jetstream()
    await js.add_stream(name="PY7", subjects=["py7"], retention=api.RetentionPolicy.WORK_QUEUE)
    for number in range(200):
        await js.publish("py7", str(number).encode())
    got = []

    # The library raises its own error of this kind, or the plain one when the server's 408 comes
    # just before its timer.
    async def work(client):
        sub = await client.jetstream().pull_subscribe("py7", "pool")
        while True:
            try:
                messages = await sub.fetch(10, timeout=0.5)
            except asyncio.TimeoutError:
                return
            for message in messages:
                got.append(int(message.data))
                await message.ack_sync(timeout=5)

    await asyncio.gather(*(work(client) for client in clients))
    assert sorted(got) == list(range(200))
    assert (await js.stream_info("PY7")).state.messages == 0
    for client in clients:
        await client.close()


@check
async def naks_terms_and_redeliveries():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY8", subjects=["py8"])
    await js.publish("py8", b"a")
    config = api.ConsumerConfig(ack_wait=0.3, max_deliver=4)
    sub = await js.pull_subscribe("py8", "d", config=config)
    message = (await sub.fetch(1, timeout=5))[0]
    assert message.metadata.num_delivered == 1
    await message.nak()
    message = (await sub.fetch(1, timeout=5))[0]
    assert (message.data, message.metadata.num_delivered) == (b"a", 2)
    await message.nak(delay=0.2)
    await js.publish("py8", b"b")
    other = (await sub.fetch(1, timeout=5))[0]
    assert other.data == b"b"
    await other.term()
    message = (await sub.fetch(1, timeout=5))[0]
    assert (message.data, message.metadata.num_delivered) == (b"a", 3)
    await message.in_progress()
    # Not acknowledged: it comes once more by itself.
    message = (await sub.fetch(1, timeout=5))[0]
    assert message.metadata.num_delivered == 4
    await message.ack_sync(timeout=5)
    info = await sub.consumer_info()
    assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 2)
    await nc.close()


@check
async def push_consumers_and_queue_groups():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY9", subjects=["py9"])
    sub = await js.subscribe("py9", durable="push")
    shared = [await js.subscribe("py9", "crew") for _ in range(3)]
    for number in range(30):
        await js.publish("py9", str(number).encode())
    for number in range(30):
        message = await sub.next_msg(timeout=5)
        assert int(message.data) == number
        await message.ack()
    got = []
    async def drain():
        for one in shared:
            while one.pending_msgs:
                message = await one.next_msg(timeout=1)
                got.append(int(message.data))
                await message.ack()
        return len(got) == 30
    await until("the crew has all", drain)
    assert sorted(got) == list(range(30))
    await nc.close()


@check
async def ordered_consumers_see_everything():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY10", subjects=["py10"])
    for number in range(2000):
        await js.publish_async("py10", b"x" * 500)
    await js.publish_async_completed()
    sub = await js.subscribe("py10", ordered_consumer=True)
    for number in range(1, 2001):
        message = await sub.next_msg(timeout=5)
        assert message.metadata.sequence.stream == number
    await nc.close()


@check
async def consumers_are_made_listed_paused_and_deleted():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY11", subjects=["py11.>"])
    config = api.ConsumerConfig(
        durable_name="c",
        ack_policy=api.AckPolicy.EXPLICIT,
        filter_subjects=["py11.a", "py11.b"],
        metadata={"team": "x"},
    )
    info = await js.add_consumer("PY11", config)
    assert info.config.filter_subjects == ["py11.a", "py11.b"]
    assert [consumer.name for consumer in await js.consumers_info("PY11")] == ["c"]
    paused = await js.pause_consumer("PY11", "c", pause_until="2099-01-01T00:00:00Z")
    assert paused.paused
    resumed = await js.resume_consumer("PY11", "c")
    assert not resumed.paused
    assert await js.delete_consumer("PY11", "c")
    await raises(js_errors.NotFoundError, js.consumer_info("PY11", "c"), 10014)
    await nc.close()


@check
async def mirrors_and_sources_follow():
    nc = await connect()
    js = nc.jetstream()
    await js.add_stream(name="PY12", subjects=["py12.>"])
    await js.add_stream(name="PY12M", mirror=api.StreamSource(name="PY12"))
    await js.add_stream(name="PY12S", sources=[api.StreamSource(name="PY12")])
    for number in range(50):
        await js.publish(f"py12.{number}", b"x")
    for name in ("PY12M", "PY12S"):
        async def full():
            return (await js.stream_info(name)).state.messages == 50
        await until(f"{name} has all", full)
    await nc.close()


@check
async def key_value():
    nc = await connect()
    js = nc.jetstream()
    kv = await js.create_key_value(bucket="PYKV", history=5)
    assert await kv.put("a", b"1") == 1
    assert await kv.put("a", b"2") == 2
    entry = await kv.get("a")
    assert (entry.value, entry.revision) == (b"2", 2)
    assert (await kv.get("a", revision=1)).value == b"1"
    assert await kv.update("a", b"3", last=2) == 3
    await raises(js_errors.KeyWrongLastSequenceError, kv.update("a", b"4", last=2))
    assert await kv.create("b", b"x") == 4
    await raises(js_errors.KeyWrongLastSequenceError, kv.create("b", b"y"))
    assert [entry.value for entry in await kv.history("a")] == [b"1", b"2", b"3"]
    assert sorted(await kv.keys()) == ["a", "b"]
    await kv.delete("b")
    await raises(js_errors.KeyNotFoundError, kv.get("b"))
    await kv.purge("a")
    await raises(js_errors.NoKeysError, kv.keys())
    status = await kv.status()
    assert status.bucket == "PYKV" and status.history == 5
    assert await js.delete_key_value("PYKV")
    await raises(js_errors.BucketNotFoundError, js.key_value("PYKV"))
    await nc.close()


@check
async def key_value_watch():
    nc = await connect()
    js = nc.jetstream()
    kv = await js.create_key_value(bucket="PYWATCH")
    await kv.put("t.one", b"1")
    await kv.put("t.two", b"2")
    watcher = await kv.watch("t.*")
    first, second = await watcher.updates(timeout=5), await watcher.updates(timeout=5)
    assert {first.key, second.key} == {"t.one", "t.two"}
    assert await watcher.updates(timeout=5) is None
    await kv.put("t.one", b"9")
    assert (await watcher.updates(timeout=5)).value == b"9"
    await kv.delete("t.two")
    assert (await watcher.updates(timeout=5)).operation == "DEL"
    await watcher.stop()
    await nc.close()


@check
async def object_store():
    nc = await connect()
    js = nc.jetstream()
    store = await js.create_object_store("PYOBJ")
    data = os.urandom(1_000_000)
    info = await store.put("big", data)
    assert info.size == len(data) and info.chunks == 8
    assert (await store.get("big")).data == data
    await store.put("small", b"hello")
    assert sorted(one.name for one in await store.list()) == ["big", "small"]
    await store.put("small", b"again")
    assert (await store.get("small")).data == b"again"
    await store.delete("big")
    await raises(js_errors.ObjectNotFoundError, store.get("big"))
    await store.seal()
    await raises(Exception, store.put("more", b"x"))
    assert await js.delete_object_store("PYOBJ")
    await nc.close()


@check
async def services():
    server, client = await connect(), await connect()
    service = await nats.micro.add_service(server, name="py-reverse", version="1.0.0")

    async def answer(request):
        if not request.data:
            await request.respond_error("400", "nothing to reverse")
        else:
            await request.respond(request.data[::-1])

    await service.add_endpoint(name="reverse", subject="py.reverse", handler=answer)
    # This library's PING may be written before what waits to be sent; the second one is not.
    await server.flush()
    await server.flush()
    for number in range(20):
        reply = await client.request("py.reverse", f"n{number}".encode(), timeout=5)
        assert reply.data == f"n{number}".encode()[::-1]
    reply = await client.request("py.reverse", b"", timeout=5)
    assert reply.headers["Nats-Service-Error-Code"] == "400"
    stats = await client.request("$SRV.STATS.py-reverse", b"", timeout=5)
    endpoint = json.loads(stats.data)["endpoints"][0]
    assert endpoint["num_requests"] == 21
    info = json.loads((await client.request("$SRV.INFO.py-reverse", b"", timeout=5)).data)
    assert info["endpoints"][0]["subject"] == "py.reverse"
    await service.stop()
    await server.close()
    await client.close()


@check
async def everything_is_there_after_a_restart():
    nc = await connect("NATS_AGAIN_URL", allow_reconnect=False)
    js = nc.jetstream()
    await js.add_stream(name="PYR", subjects=["pyr"])
    kv = await js.create_key_value(bucket="PYRKV")
    await kv.put("k", b"v")
    for number in range(100):
        await js.publish("pyr", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
    sub = await js.pull_subscribe("pyr", "d")
    for message in await sub.fetch(10, timeout=5):
        await message.ack_sync(timeout=5)
    os.kill(int(os.environ["AGAIN_PID"]), signal.SIGTERM)
    await nc.close()
    port = os.environ["AGAIN_PORT"]

    async def gone():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await until("the server is gone", gone)
    command = ["-a", "127.0.0.1", "-p", port, "-c", os.environ["AGAIN_CONFIG"]]
    server = subprocess.Popen([os.environ["AGAIN_SERVER"], *command], stderr=subprocess.DEVNULL)
    clients = []

    async def back():
        try:
            clients.append(await connect("NATS_AGAIN_URL", allow_reconnect=False))
            return True
        except (Error, NoServersError, OSError):  # not yet
            return False

    try:
        await until("the server is back", back)
        js = clients[0].jetstream()
        assert (await js.stream_info("PYR")).state.messages == 100
        assert (await (await js.key_value("PYRKV")).get("k")).value == b"v"
        ack = await js.publish("pyr", b"99", headers={"Nats-Msg-Id": "99"})
        assert (ack.seq, ack.duplicate) == (100, True)
        info = await js.consumer_info("PYR", "d")
        assert info.ack_floor.stream_seq == 10
        sub = await js.pull_subscribe("pyr", "d")
        assert (await sub.fetch(1, timeout=5))[0].data == b"10"
        await clients[0].close()
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    raise SystemExit(main())
