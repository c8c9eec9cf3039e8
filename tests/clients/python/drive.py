"""Drives the server with nats-py. Each check prints `ok NAME` or `not ok NAME: why`."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import urllib.request

import nats
from nats.errors import (
    Error,
    MaxPayloadError,
    NoRespondersError,
    NoServersError,
)
from nats.errors import TimeoutError as NatsTimeoutError

from checks import check, connect, main

SEED = "SUAOIAF3SIPKZL2KCCR5HQ4DDN7T25DJPOF74Q55ZWPWKDJQK3QDF36BBM"


async def settle(client):
    """Returns when the server has handled all that the client sent, for every other client.

    The library may write a flush's PING ahead of what is still in its buffer, so that a flush
    alone proves nothing. A message to itself empties the buffer first.
    """
    sub = await client.subscribe(client.new_inbox())
    await client.publish(sub.subject, b"")
    await sub.next_msg(timeout=5)
    await sub.unsubscribe()
    await client.flush()


async def refused(where, **options):
    """The connection must fail; gives the error's text."""
    errors = []

    async def on_error(error):
        errors.append(error)

    try:
        await connect(
            where,
            allow_reconnect=False,
            max_reconnect_attempts=0,
            error_cb=on_error,
            **options,
        )
    except (Error, NoServersError, ConnectionError, ssl.SSLError) as error:
        errors.append(error)
        return " ".join(repr(error) for error in errors)
    raise AssertionError("the connection was not refused")


@check
async def publish_and_subscribe_across_connections():
    clients = [await connect() for _ in range(6)]
    subs = [await client.subscribe("py.news.*") for client in clients]
    for client in clients:
        await settle(client)
    for number in range(100):
        await clients[number % 6].publish(f"py.news.{number}", str(number).encode())
        for sub in subs:
            message = await sub.next_msg(timeout=5)
            assert (message.subject, message.data) == (
                f"py.news.{number}",
                str(number).encode(),
            )
    for client in clients:
        await client.close()


@check
async def request_and_reply():
    service, client = await connect(), await connect()

    async def answer(message):
        await message.respond(message.data[::-1])

    await service.subscribe("py.reverse", cb=answer)
    await settle(service)
    for number in range(200):
        text = f"text {number}".encode()
        reply = await client.request("py.reverse", text, timeout=5)
        assert reply.data == text[::-1]
    old = await client.request("py.reverse", b"abc", timeout=5, old_style=True)
    assert old.data == b"cba"
    await service.close()
    await client.close()


@check
async def no_responders_and_timeouts():
    client = await connect()
    try:
        await client.request("py.nobody", b"", timeout=5)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        pass
    await client.subscribe("py.silent", cb=ignore)
    try:
        await client.request("py.silent", b"", timeout=0.2)
        raise AssertionError("somebody answered")
    except NatsTimeoutError:
        pass
    await client.close()


async def ignore(_message):
    pass


@check
async def queue_groups_share_the_work():
    counts = [0] * 6
    done = asyncio.Event()
    members = []

    def counter(index):
        async def count(_message):
            counts[index] += 1
            if sum(counts) == 1200:
                done.set()

        return count

    for index in range(6):
        member = await connect()
        await member.subscribe("py.work", queue="workers", cb=counter(index))
        await settle(member)
        members.append(member)
    publisher = await connect()
    for _ in range(1200):
        await publisher.publish("py.work", b"x")
    await settle(publisher)
    await asyncio.wait_for(done.wait(), 10)
    assert all(60 < count < 500 for count in counts), counts
    for client in [*members, publisher]:
        await settle(client)
        await client.close()
    assert sum(counts) == 1200, counts


@check
async def headers_travel():
    client, other = await connect(), await connect()
    sub = await other.subscribe("py.headers")
    await settle(other)
    await client.publish("py.headers", b"body", headers={"X-One": "1", "x-two": "zwei"})
    message = await sub.next_msg(timeout=5)
    assert dict(message.headers) == {"X-One": "1", "x-two": "zwei"}, message.headers
    assert message.data == b"body"
    await client.close()
    await other.close()


@check
async def unsubscribe_after_a_number():
    client = await connect()
    got = []

    async def take(message):
        got.append(message.data)

    sub = await client.subscribe("py.limited", cb=take)
    await sub.unsubscribe(limit=3)
    for number in range(10):
        await client.publish("py.limited", str(number).encode())
    await settle(client)
    await client.drain()
    assert got == [b"0", b"1", b"2"], got


@check
async def drain_handles_everything_first():
    publisher, client = await connect(), await connect()
    got = []

    async def take(message):
        got.append(message.data)

    sub = await client.subscribe("py.drain", cb=take)
    await settle(client)
    for number in range(500):
        await publisher.publish("py.drain", str(number).encode())
    await settle(publisher)
    await sub.drain()
    assert [int(data) for data in got] == list(range(500)), len(got)
    await client.drain()
    assert client.is_closed
    await publisher.close()


@check
async def payload_limit():
    client = await connect()
    assert client.max_payload == 1048576
    sub = await client.subscribe("py.large")
    await client.publish("py.large", b"x" * client.max_payload)
    assert len((await sub.next_msg(timeout=5)).data) == client.max_payload
    try:
        await client.publish("py.large", b"x" * (client.max_payload + 1))
        raise AssertionError("a payload over the limit was taken")
    except MaxPayloadError:
        pass
    await client.close()


@check
async def logins():
    for options in (
        {"user": "alice", "password": "secret"},
        {"user": "hashed", "password": "secret"},
        {"nkeys_seed_str": SEED},
    ):
        client = await connect("NATS_AUTH_URL", **options)
        await settle(client)
        await client.close()
    client = await connect("NATS_TOKEN_URL", token="t0ken")
    await client.close()
    for where, options in (
        ("NATS_AUTH_URL", {"user": "alice", "password": "wrong"}),
        ("NATS_AUTH_URL", {}),
        ("NATS_AUTH_URL", {"user": "hashed", "password": "nope"}),
        ("NATS_TOKEN_URL", {"token": "other"}),
    ):
        said = (await refused(where, **options)).lower()
        assert "authorization violation" in said, said


@check
async def permission_errors_are_told():
    errors = asyncio.Queue()

    async def on_error(error):
        await errors.put(str(error).lower())

    client = await connect(
        "NATS_AUTH_URL", user="bound", password="secret", error_cb=on_error
    )
    await client.publish("no.way", b"")
    said = await asyncio.wait_for(errors.get(), 5)
    assert 'permissions violation for publish to "no.way"' in said, said
    await client.subscribe("no.>", cb=ignore)
    said = await asyncio.wait_for(errors.get(), 5)
    assert 'permissions violation for subscription to "no.>"' in said, said
    sub = await client.subscribe("ok.a")
    await client.publish("ok.a", b"still here")
    assert (await sub.next_msg(timeout=5)).data == b"still here"
    await client.close()


@check
async def tls():
    trusting = ssl.create_default_context(cafile=os.environ["TRUSTED_CA"])
    client = await connect("NATS_TLS_URL", tls=trusting)
    sub = await client.subscribe("py.tls")
    await client.publish("py.tls", b"s" * 300000)
    assert len((await sub.next_msg(timeout=5)).data) == 300000
    await client.close()
    said = await refused("NATS_TLS_URL", tls=ssl.create_default_context())
    assert "certificate" in said.lower(), said


@check
async def reconnects_after_a_restart_on_the_same_port():
    back, gone = asyncio.Event(), asyncio.Event()

    async def on_disconnect():
        gone.set()

    async def on_reconnect():
        back.set()

    client = await connect(
        "NATS_AGAIN_URL",
        reconnect_time_wait=0.05,
        max_reconnect_attempts=-1,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
    )
    sub = await client.subscribe("py.again")
    await settle(client)
    os.kill(int(os.environ["AGAIN_PID"]), signal.SIGKILL)
    await asyncio.wait_for(gone.wait(), 5)
    server = subprocess.Popen(
        [
            os.environ["AGAIN_SERVER"],
            "-a",
            "127.0.0.1",
            "-p",
            os.environ["AGAIN_PORT"],
            "-c",
            os.environ["AGAIN_CONFIG"],
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        await asyncio.wait_for(back.wait(), 10)
        await settle(client)
        await client.publish("py.again", b"back")
        assert (await sub.next_msg(timeout=5)).data == b"back"
        await client.close()
    finally:
        server.terminate()
        server.wait(10)


@check
async def lame_duck_mode_is_told():
    told = asyncio.Event()

    async def on_lame_duck():
        told.set()

    client = await connect("NATS_DUCK_URL", lame_duck_mode_cb=on_lame_duck)
    await settle(client)
    os.kill(int(os.environ["DUCK_PID"]), signal.SIGUSR2)
    await asyncio.wait_for(told.wait(), 5)
    await client.close()


@check
async def many_connections_and_their_connz():
    clients = [await connect(name=f"py-{index}") for index in range(50)]
    for client in clients:
        await client.subscribe("py.count", cb=ignore)
        await settle(client)
    url = os.environ["NATS_MONITOR"] + "/connz?subs=1&sort=cid&limit=1000"
    with urllib.request.urlopen(url, timeout=5) as page:
        connz = json.load(page)
    ours = [c for c in connz["connections"] if c.get("name", "").startswith("py-")]
    assert len(ours) == 50, len(ours)
    assert all(c["lang"] == "python3" and c["subscriptions"] == 1 for c in ours)
    cids = [c["cid"] for c in connz["connections"]]
    assert cids == sorted(cids)
    for client in clients:
        await client.close()


if __name__ == "__main__":
    raise SystemExit(main())
