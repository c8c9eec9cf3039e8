// Drives the server with @nats-io/transport-node. Each check prints `ok NAME` or
// `not ok NAME: why`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import assert from "node:assert/strict";
import {
  connect,
  credsAuthenticator,
  deferred,
  headers,
  nkeyAuthenticator,
  errors,
} from "@nats-io/transport-node";
import { runChecks } from "./checks.mjs";

const SEED = "SUAOIAF3SIPKZL2KCCR5HQ4DDN7T25DJPOF74Q55ZWPWKDJQK3QDF36BBM";
const env = process.env;
const open = (url = env.NATS_URL, options = {}) =>
  connect({ servers: url, timeout: 5000, ...options });
const text = (string) => new TextEncoder().encode(string);

// The promise's value, or a failure after five seconds.
const soon = (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain: ${what}`)), 5000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// A subscription that collects texts, and a way to await so many of them.
function collect(nc, subject, options = {}) {
  const got = [];
  const waiting = [];
  nc.subscribe(subject, {
    ...options,
    callback: (error, message) => {
      if (error) return;
      got.push(message);
      for (const waiter of waiting) if (got.length >= waiter.count) waiter.done.resolve();
    },
  });
  const reach = (count) => {
    if (got.length >= count) return Promise.resolve();
    const done = deferred();
    waiting.push({ count, done });
    return soon(done, `${count} messages on ${subject}, got ${got.length}`);
  };
  return { got, reach };
}

// Waits for a status event of this type.
async function status(nc, type, take = () => true) {
  for await (const event of nc.status()) {
    if (event.type === type && take(event)) return event;
  }
  throw new Error(`no status ${type}`);
}

async function refused(url, options) {
  try {
    const nc = await open(url, { reconnect: false, ...options });
    await nc.close();
  } catch (error) {
    return error;
  }
  throw new Error("the connection was not refused");
}

const checks = {
  async publishAndSubscribe() {
    const clients = await Promise.all(Array.from({ length: 6 }, () => open()));
    const boxes = clients.map((nc) => collect(nc, "js.news.*"));
    await Promise.all(clients.map((nc) => nc.flush()));
    for (let number = 0; number < 100; number++) {
      clients[number % 6].publish(`js.news.${number}`, `${number}`);
      await Promise.all(boxes.map((box) => box.reach(number + 1)));
    }
    for (const box of boxes) {
      assert.deepEqual(box.got.map((m) => m.string()), boxes[0].got.map((m) => m.string()));
      assert.equal(box.got.length, 100);
    }
    await Promise.all(clients.map((nc) => nc.close()));
  },

  async requestAndReply() {
    const [service, nc] = [await open(), await open()];
    service.subscribe("js.double", {
      callback: (_error, message) => message.respond(`${Number(message.string()) * 2}`),
    });
    await service.flush();
    for (let number = 0; number < 200; number++) {
      const reply = await nc.request("js.double", `${number}`, { timeout: 5000 });
      assert.equal(reply.string(), `${number * 2}`);
    }
    const own = await nc.request("js.double", "21", { noMux: true, timeout: 5000 });
    assert.equal(own.string(), "42");
    await service.close();
    await nc.close();
  },

  async noResponders() {
    const nc = await open();
    await assert.rejects(
      nc.request("js.nobody", "", { timeout: 5000 }),
      (error) => error instanceof errors.RequestError && error.isNoResponders(),
    );
    await nc.close();
  },

  async queueGroups() {
    const members = await Promise.all(Array.from({ length: 6 }, () => open()));
    const boxes = members.map((nc) => collect(nc, "js.work", { queue: "workers" }));
    await Promise.all(members.map((nc) => nc.flush()));
    const nc = await open();
    for (let number = 0; number < 1200; number++) nc.publish("js.work", `${number}`);
    await nc.flush();
    await Promise.all(members.map((member) => member.flush()));
    const counts = boxes.map((box) => box.got.length);
    assert.equal(counts.reduce((a, b) => a + b), 1200, `${counts}`);
    assert.ok(counts.every((count) => count > 60 && count < 500), `${counts}`);
    await Promise.all([nc, ...members].map((client) => client.close()));
  },

  async headersTravel() {
    const [nc, other] = [await open(), await open()];
    const box = collect(other, "js.headers");
    await other.flush();
    const sent = headers();
    sent.append("X-One", "1");
    sent.append("X-One", "eins");
    sent.set("lower", "case");
    nc.publish("js.headers", "body", { headers: sent });
    await box.reach(1);
    const [message] = box.got;
    assert.deepEqual(message.headers.values("X-One"), ["1", "eins"]);
    assert.equal(message.headers.get("lower"), "case");
    assert.equal(message.string(), "body");
    await nc.close();
    await other.close();
  },

  async unsubscribeAfterANumber() {
    const nc = await open();
    const sub = nc.subscribe("js.limited", { max: 3 });
    for (let number = 0; number < 10; number++) nc.publish("js.limited", `${number}`);
    const got = [];
    for await (const message of sub) got.push(message.string());
    assert.deepEqual(got, ["0", "1", "2"]);
    await nc.close();
  },

  async drain() {
    const [publisher, nc] = [await open(), await open()];
    const box = collect(nc, "js.drain");
    await nc.flush();
    for (let number = 0; number < 500; number++) publisher.publish("js.drain", text(`${number}`));
    await publisher.flush();
    await nc.drain();
    assert.deepEqual(box.got.map((m) => Number(m.string())), [...Array(500).keys()]);
    await publisher.close();
  },

  async payloadLimit() {
    const nc = await open();
    assert.equal(nc.info.max_payload, 1048576);
    const box = collect(nc, "js.large");
    nc.publish("js.large", new Uint8Array(1048576));
    await box.reach(1);
    assert.equal(box.got[0].data.length, 1048576);
    await nc.close();
  },

  async infoAfterConnect() {
    const nc = await open();
    await nc.flush();
    assert.equal(nc.info.headers, true);
    assert.equal(nc.info.version, "2.15.1");
    assert.ok(nc.info.client_id > 0 && nc.info.server_id.startsWith("N"));
    assert.ok((await nc.rtt()) >= 0);
    await nc.close();
  },

  async logins() {
    const url = env.NATS_AUTH_URL;
    for (const options of [
      { user: "alice", pass: "secret" },
      { user: "hashed", pass: "secret" },
      { authenticator: nkeyAuthenticator(text(SEED)) },
    ]) {
      const nc = await open(url, options);
      await nc.flush();
      await nc.close();
    }
    await (await open(env.NATS_TOKEN_URL, { token: "t0ken" })).close();
    for (const [where, options] of [
      [url, { user: "alice", pass: "wrong" }],
      [url, {}],
      [env.NATS_TOKEN_URL, { token: "other" }],
    ]) {
      const error = await refused(where, options);
      assert.ok(error instanceof errors.AuthorizationError, `${error}`);
    }
    assert.equal(typeof credsAuthenticator, "function");
  },

  async permissionErrors() {
    const nc = await open(env.NATS_AUTH_URL, { user: "bound", pass: "secret" });
    const publish = status(
      nc,
      "error",
      ({ error }) =>
        error instanceof errors.PermissionViolationError && error.operation === "publish",
    );
    nc.publish("no.way");
    const { error } = await soon(publish, "the publish error");
    assert.equal(error.subject, "no.way");
    const denied = deferred();
    nc.subscribe("no.>", {
      queue: "q",
      callback: (error) => denied.resolve(error),
    });
    const violation = await soon(denied, "the subscription error");
    assert.ok(violation instanceof errors.PermissionViolationError, `${violation}`);
    assert.equal(violation.operation, "subscription");
    assert.equal(violation.subject, "no.>");
    assert.equal(violation.queue, "q");
    const box = collect(nc, "ok.a");
    nc.publish("ok.a", "still here");
    await box.reach(1);
    await nc.close();
  },

  async tls() {
    const nc = await open(env.NATS_TLS_URL, { tls: { caFile: env.TRUSTED_CA } });
    const box = collect(nc, "js.tls");
    nc.publish("js.tls", new Uint8Array(300000));
    await box.reach(1);
    assert.equal(box.got[0].data.length, 300000);
    await nc.close();
    await refused(env.NATS_TLS_URL, { tls: {} });
  },

  async reconnectAfterRestart() {
    const nc = await open(env.NATS_AGAIN_URL, {
      reconnectTimeWait: 50,
      maxReconnectAttempts: -1,
    });
    const box = collect(nc, "js.again");
    await nc.flush();
    const back = status(nc, "reconnect");
    const gone = status(nc, "disconnect");
    process.kill(Number(env.AGAIN_PID), "SIGKILL");
    await soon(gone, "the disconnect");
    const server = spawn(
      env.AGAIN_SERVER,
      ["-a", "127.0.0.1", "-p", env.AGAIN_PORT, "-c", env.AGAIN_CONFIG],
      { stdio: "ignore" },
    );
    const ended = once(server, "exit");
    try {
      await soon(back, "the reconnect");
      await nc.flush();
      nc.publish("js.again", "back");
      await box.reach(1);
      await nc.close();
    } finally {
      server.kill("SIGTERM");
      await ended;
    }
  },

  async lameDuckMode() {
    const nc = await open(env.NATS_DUCK_URL);
    await nc.flush();
    const told = status(nc, "ldm");
    process.kill(Number(env.DUCK_PID), "SIGUSR2");
    await soon(told, "the lame duck status");
    await nc.close();
  },

  async manyConnectionsInConnz() {
    const clients = await Promise.all(
      Array.from({ length: 50 }, (_, index) => open(env.NATS_URL, { name: `js-${index}` })),
    );
    await Promise.all(clients.map((nc) => nc.flush()));
    const page = await fetch(`${env.NATS_MONITOR}/connz?limit=1000`);
    const connz = await page.json();
    const ours = connz.connections.filter((conn) => conn.name?.startsWith("js-"));
    assert.equal(ours.length, 50);
    await Promise.all(clients.map((nc) => nc.close()));
  },
};

await runChecks(checks);
