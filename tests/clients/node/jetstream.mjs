// Drives JetStream with @nats-io/jetstream, kv and obj. Each check prints `ok NAME` or
// `not ok NAME: why`.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, headers, nanos } from "@nats-io/transport-node";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  jetstream,
  jetstreamManager,
  RetentionPolicy,
} from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { runChecks } from "./checks.mjs";

const env = process.env;
const open = () => connect({ servers: env.NATS_URL, timeout: 5000 });

// Asks until the answer is true, at most five seconds.
async function until(what, probe) {
  const end = Date.now() + 5000;
  while (!(await probe())) {
    assert.ok(Date.now() < end, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// The promise must fail with this error code of the API, or with any.
async function fails(promise, code) {
  try {
    await promise;
  } catch (error) {
    if (code !== undefined) assert.equal(error.code, code, error.message);
    return error;
  }
  throw new Error("did not fail");
}

// A stream, and all one needs to work with it.
async function made(config) {
  const nc = await open();
  const jsm = await jetstreamManager(nc);
  const js = jetstream(nc);
  const info = await jsm.streams.add(config);
  return { nc, jsm, js, info };
}

async function fill(js, subject, count) {
  for (let n = 0; n < count; n++) await js.publish(subject, `${n}`);
}

const checks = {
  async publish_acks_and_expectations() {
    const { nc, js, jsm } = await made({ name: "JS1", subjects: ["js1.>"] });
    for (let n = 1; n <= 50; n++) {
      const ack = await js.publish(`js1.${n % 3}`, `${n}`);
      assert.deepEqual([ack.stream, ack.seq, ack.duplicate], ["JS1", n, false]);
    }
    const first = await js.publish("js1.x", "a", { msgID: "one" });
    const again = await js.publish("js1.x", "a", { msgID: "one" });
    assert.deepEqual([again.seq, again.duplicate], [first.seq, true]);
    await fails(js.publish("js1.x", "b", { expect: { lastSequence: 7 } }), 10071);
    await fails(js.publish("js1.x", "b", { expect: { streamName: "NO" } }), 10060);
    await fails(js.publish("js1.x", "b", { expect: { lastMsgID: "two" } }), 10070);
    await fails(js.publish("js1.x", "b", { expect: { lastSubjectSequence: 7 } }), 10071);
    await fails(js.publish("js1none", "b"));
    const info = await jsm.streams.info("JS1", { subjects_filter: ">" });
    assert.equal(info.state.subjects["js1.x"], 1);
    await nc.close();
  },

  async streams_are_managed() {
    const { nc, jsm, js, info } = await made({
      name: "JS2",
      subjects: ["js2.*"],
      description: "text",
      metadata: { team: "x" },
    });
    assert.equal(info.config.metadata.team, "x");
    await fails(jsm.streams.add({ name: "JS2", subjects: ["js2.other"] }), 10058);
    await fails(jsm.streams.add({ name: "JS2B", subjects: ["js2.a"] }), 10065);
    await fill(js, "js2.a", 6);
    await fill(js, "js2.b", 4);
    const updated = await jsm.streams.update("JS2", { max_msgs: 9, discard: DiscardPolicy.New });
    assert.equal(updated.config.max_msgs, 9);
    assert.equal(await jsm.streams.find("js2.a"), "JS2");
    const names = [];
    for await (const name of jsm.streams.names()) names.push(name);
    assert.ok(names.includes("JS2"));
    assert.equal((await jsm.streams.purge("JS2", { filter: "js2.b" })).purged, 4);
    assert.equal((await jsm.streams.purge("JS2", { keep: 2 })).purged, 4);
    assert.ok(await jsm.streams.delete("JS2"));
    await fails(jsm.streams.info("JS2"), 10059);
    await nc.close();
  },

  async messages_are_read_and_deleted() {
    const { nc, jsm, js } = await made({ name: "JS3", subjects: ["js3.*"], allow_direct: true });
    const extra = headers();
    extra.set("K", "v");
    await js.publish("js3.a", "one", { headers: extra });
    await js.publish("js3.b", "two");
    const stored = await jsm.streams.getMessage("JS3", { seq: 1 });
    assert.deepEqual([stored.string(), stored.header.get("K")], ["one", "v"]);
    const direct = await jsm.direct.getMessage("JS3", { last_by_subj: "js3.b" });
    assert.deepEqual([direct.seq, direct.string()], [2, "two"]);
    const seen = [];
    for await (const one of await jsm.direct.getBatch("JS3", { seq: 1, batch: 10 })) {
      seen.push(one.seq);
    }
    assert.deepEqual(seen, [1, 2]);
    const lasts = [];
    for await (const one of await jsm.direct.getLastMessagesFor("JS3", { multi_last: ["js3.*"] })) {
      lasts.push(one.subject);
    }
    assert.deepEqual(lasts, ["js3.a", "js3.b"]);
    assert.ok(await jsm.streams.deleteMessage("JS3", 1));
    assert.equal(await jsm.streams.getMessage("JS3", { seq: 1 }), null);
    await nc.close();
  },

  async pull_consumers_fetch_and_consume() {
    const { nc, jsm, js } = await made({ name: "JS4", subjects: ["js4"] });
    await fill(js, "js4", 300);
    await jsm.consumers.add("JS4", { durable_name: "c", ack_policy: AckPolicy.Explicit });
    const consumer = await js.consumers.get("JS4", "c");
    const got = [];
    for await (const message of await consumer.fetch({ max_messages: 100, expires: 5000 })) {
      got.push(Number(message.string()));
      message.ack();
    }
    assert.equal(got.length, 100);
    const messages = await consumer.consume({ max_messages: 50 });
    for await (const message of messages) {
      got.push(Number(message.string()));
      message.ack();
      if (got.length === 300) break;
    }
    assert.deepEqual(got, Array.from({ length: 300 }, (_, n) => n));
    await until("all acked", async () => {
      const info = await consumer.info();
      return info.num_ack_pending === 0 && info.ack_floor.stream_seq === 300;
    });
    const none = await consumer.next({ expires: 1000 });
    assert.equal(none, null);
    await nc.close();
  },

  async naks_terms_and_double_acks() {
    const { nc, jsm, js } = await made({ name: "JS5", subjects: ["js5"] });
    await fill(js, "js5", 2);
    await jsm.consumers.add("JS5", {
      durable_name: "c",
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(30000),
    });
    const consumer = await js.consumers.get("JS5", "c");
    let message = await consumer.next({ expires: 5000 });
    message.nak();
    message = await consumer.next({ expires: 5000 });
    assert.deepEqual([message.seq, message.info.deliveryCount], [1, 2]);
    message.nak(200);
    const other = await consumer.next({ expires: 5000 });
    assert.equal(other.seq, 2);
    other.term("no use");
    message = await consumer.next({ expires: 5000 });
    assert.deepEqual([message.seq, message.info.deliveryCount], [1, 3]);
    message.working();
    assert.ok(await message.ackAck());
    const info = await consumer.info();
    assert.deepEqual([info.num_ack_pending, info.ack_floor.stream_seq], [0, 2]);
    await nc.close();
  },

  async work_queues_empty_themselves() {
    const { nc, jsm, js } = await made({
      name: "JS6",
      subjects: ["js6"],
      retention: RetentionPolicy.Workqueue,
    });
    await fill(js, "js6", 20);
    await jsm.consumers.add("JS6", { durable_name: "c", ack_policy: AckPolicy.Explicit });
    await fails(jsm.consumers.add("JS6", { durable_name: "d", ack_policy: AckPolicy.Explicit }), 10099);
    const consumer = await js.consumers.get("JS6", "c");
    for await (const message of await consumer.fetch({ max_messages: 20, expires: 5000 })) {
      await message.ackAck();
    }
    assert.equal((await jsm.streams.info("JS6")).state.messages, 0);
    await nc.close();
  },

  async ordered_consumers_see_everything() {
    const { nc, js } = await made({ name: "JS7", subjects: ["js7.*"] });
    await fill(js, "js7.a", 300);
    await fill(js, "js7.b", 5);
    const consumer = await js.consumers.get("JS7", {
      filter_subjects: ["js7.a"],
      deliver_policy: DeliverPolicy.All,
    });
    let next = 1;
    for await (const message of await consumer.consume()) {
      assert.equal(message.seq, next);
      next += 1;
      if (message.info.pending === 0) break;
    }
    assert.equal(next, 301);
    await nc.close();
  },

  async consumers_are_managed_and_paused() {
    const { nc, jsm, js } = await made({ name: "JS8", subjects: ["js8.>"] });
    await jsm.consumers.add("JS8", { durable_name: "c", ack_policy: AckPolicy.Explicit });
    const changed = await jsm.consumers.update("JS8", "c", { max_deliver: 7 });
    assert.equal(changed.config.max_deliver, 7);
    assert.ok((await jsm.consumers.pause("JS8", "c", new Date(Date.now() + 60000))).paused);
    assert.ok(!(await jsm.consumers.resume("JS8", "c")).paused);
    const names = [];
    for await (const info of jsm.consumers.list("JS8")) names.push(info.name);
    assert.deepEqual(names, ["c"]);
    assert.ok(await jsm.consumers.delete("JS8", "c"));
    await fails(jsm.consumers.info("JS8", "c"), 10014);
    await fails(js.consumers.get("JS8", "c"));
    await nc.close();
  },

  async advisories_arrive() {
    const nc = await open();
    const jsm = await jetstreamManager(nc);
    const seen = [];
    (async () => {
      for await (const advisory of jsm.advisories()) seen.push(advisory.kind);
    })();
    await nc.flush();
    await jsm.streams.add({ name: "JS9", subjects: ["js9"] });
    await jsm.streams.delete("JS9");
    await until("both advisories", async () =>
      seen.filter((kind) => kind === "stream_action").length >= 2);
    await nc.close();
  },

  async key_value() {
    const nc = await open();
    const kv = await new Kvm(nc).create("JSKV", { history: 5 });
    assert.equal(await kv.put("a", "1"), 1);
    assert.equal(await kv.put("a", "2"), 2);
    assert.equal((await kv.get("a")).string(), "2");
    assert.equal((await kv.get("a", { revision: 1 })).string(), "1");
    assert.equal(await kv.update("a", "3", 2), 3);
    await fails(kv.update("a", "4", 2));
    assert.equal(await kv.create("b", "x"), 4);
    await fails(kv.create("b", "y"));
    const history = [];
    for await (const entry of await kv.history({ key: "a" })) history.push(entry.string());
    assert.deepEqual(history, ["1", "2", "3"]);
    await kv.delete("b");
    assert.equal((await kv.get("b")).operation, "DEL");
    await kv.purge("a");
    const keys = [];
    for await (const key of await kv.keys()) keys.push(key);
    assert.deepEqual(keys, []);
    const status = await kv.status();
    assert.deepEqual([status.bucket, status.history], ["JSKV", 5]);
    assert.ok(await kv.destroy());
    await nc.close();
  },

  async key_value_watch() {
    const nc = await open();
    const kv = await new Kvm(nc).create("JSWATCH");
    await kv.put("t.one", "1");
    await kv.put("t.two", "2");
    const seen = [];
    const watcher = await kv.watch({ key: "t.*" });
    (async () => {
      for await (const entry of watcher) seen.push([entry.key, entry.operation, entry.string()]);
    })();
    await until("the first values", async () => seen.length === 2);
    await kv.put("t.one", "9");
    await kv.put("other", "9");
    await kv.delete("t.two");
    await until("the changes", async () => seen.length === 4);
    assert.deepEqual(seen.slice(2), [["t.one", "PUT", "9"], ["t.two", "DEL", ""]]);
    watcher.stop();
    await nc.close();
  },

  async object_store() {
    const nc = await open();
    const store = await new Objm(nc).create("JSOBJ");
    const data = new Uint8Array(randomBytes(1_000_000));
    const info = await store.putBlob({ name: "big" }, data);
    assert.deepEqual([info.size, info.chunks], [1_000_000, 8]);
    assert.deepEqual(await store.getBlob("big"), data);
    await store.putBlob({ name: "small" }, new TextEncoder().encode("hello"));
    await store.putBlob({ name: "small" }, new TextEncoder().encode("again"));
    assert.equal(new TextDecoder().decode(await store.getBlob("small")), "again");
    assert.deepEqual((await store.list()).map((one) => one.name).sort(), ["big", "small"]);
    const gone = await store.delete("big");
    assert.ok(gone.success && gone.purged >= 8);
    assert.equal(await store.getBlob("big"), null);
    await store.seal();
    await fails(store.putBlob({ name: "more" }, data));
    assert.ok(await store.destroy());
    await nc.close();
  },

  async account_info_counts() {
    const { nc, jsm } = await made({ name: "JS10", subjects: ["js10"], storage: "memory" });
    const info = await jsm.getAccountInfo();
    assert.ok(info.streams >= 1 && info.api.total > 0 && info.limits.max_streams === -1);
    await nc.close();
  },
};

await runChecks(checks);
