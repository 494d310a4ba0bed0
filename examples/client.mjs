// A client of clusterkit in node.js, of node's own modules alone, written from docs/wire.md: "§" is a section there.
//
//   CLUSTERKIT_COOKIE=... node examples/client.mjs HOST PORT ping | members | ask NODE SERVER EVENT [JSON]
//
// One call makes one session, which outlives its connections. Left out: TLS, timestamps, what a sender checks of its
// payloads (§6.1), and the timers of §5.1, as nothing here waits longer than DEADLINE.

import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { connect } from "node:net";

const [DEADLINE, MAX] = [5000, 1 << 20]; // ms for a call with all that it needs; bytes of a record that we take
const join = (...parts) => Buffer.concat(parts);
const u = (size, n) => Buffer.from(BigInt.asUintN(8 * size, BigInt(n)).toString(16).padStart(2 * size, "0"), "hex");

/** Of what is `lost` nobody is proven guilty: the session goes on over another connection. Else it ends. */
const fail = (name, message, lost = false) => {
  throw Object.assign(new Error(message), { name, lost });
};

// -- Payloads (§6.1), in msgpack
/** Packs what JSON knows, and Buffers; not in the shortest forms, as any legal one is taken. */
export function pack(value) {
  if (value === null || typeof value === "boolean") return u(1, { null: 0xc0, false: 0xc2, true: 0xc3 }[value]);
  if (Number.isSafeInteger(value)) return join(u(1, 0xd3), u(8, value));
  if (typeof value === "number") return join(u(1, 0xcb), Buffer.from(new Float64Array([value]).buffer).swap64());
  if (typeof value === "string") return join(u(1, 0xdb), u(4, Buffer.byteLength(value)), Buffer.from(value));
  if (Buffer.isBuffer(value)) return join(u(1, 0xc6), u(4, value.length), value);
  if (Array.isArray(value)) return join(u(1, 0xdd), u(4, value.length), ...value.map(pack));
  const entries = Object.entries(value);
  return join(u(1, 0xdf), u(4, entries.length), ...entries.flat().map(pack));
}

/** Unpacks all but extensions. An integer that is too large for a number becomes text. */
export function unpack(bytes) {
  let at = 0;
  const take = (size) => bytes.subarray(at, (at += size)); // fewer at the end, which the last line sees
  const count = (size) => take(size).readUIntBE(0, size);
  const big = (size) => BigInt(`0x${take(size).toString("hex")}`);
  const exact = (integer) => (Number.isSafeInteger(Number(integer)) ? Number(integer) : String(integer));
  const text = (size) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(take(size));
  const list = (length, item = value) => Array.from({ length }, () => item());
  const map = (length) => Object.fromEntries(list(length, () => [value(), value()]));
  const value = () => {
    const first = count(1);
    if (first < 0x80 || first >= 0xe0) return (first << 24) >> 24;
    if (first < 0xa0) return (first < 0x90 ? map : list)(first & 15);
    if (first < 0xc0) return text(first & 31);
    if (first === 0xc0) return null;
    if (first === 0xc2 || first === 0xc3) return first === 0xc3;
    if (first >= 0xc4 && first <= 0xc6) return take(count(1 << (first - 0xc4)));
    if (first === 0xcb) return take(8).readDoubleBE();
    if (first >= 0xcc && first <= 0xcf) return exact(big(1 << (first - 0xcc)));
    if (first >= 0xd0 && first <= 0xd3) return exact(BigInt.asIntN(8 << (first - 0xd0), big(1 << (first - 0xd0))));
    if (first >= 0xd9 && first <= 0xdb) return text(count(1 << (first - 0xd9)));
    if (first >= 0xdc && first <= 0xdf) return (first < 0xde ? list : map)(count(2 << (first & 1)));
    return fail("ProtocolError", `msgpack of a type unknown here, 0x${first.toString(16)}`);
  };
  const whole = value();
  return at === bytes.length ? whole : fail("ProtocolError", "msgpack of another length");
}

// -- The proof (§2)
const STATUS = ["ACCEPT", "VERSION", "SELF", "RING", "OLD_BOOT", "NAME_TAKEN", "CROSSED", "LEAVING", "FULL"]; // §2.3
const sha256 = (...data) => createHash("sha256").update(join(...data)).digest();
const hmac = (key, ...data) => createHmac("sha256", key).update(join(...data)).digest();
const lp = (text) => join(u(1, text.length), Buffer.from(text));
const twoKeys = (cookie, label, transcript) => {
  const both = hkdfSync("sha256", cookie, "clusterkit/1 cookie", join(Buffer.from(`${label}\0`), transcript), 64);
  return [Buffer.from(both, 0, 32), Buffer.from(both, 32)];
};

/** Tells who answered, and the two keys of the records. `known`: the node that the session has met, if any. */
export async function handshake({ read, write }, cookie, me, known, nonce = randomBytes(32)) {
  const hello = join(Buffer.from("CKT1\x01"), nonce);
  write(hello);
  const chal = await read(37);
  if (chal.toString("latin1", 0, 5) !== "CKT1\x02") fail("ProtocolError", "no node of clusterkit", true);
  const t1 = sha256(hello, chal);
  const [mine, theirs] = twoKeys(cookie, "clusterkit/1 auth", t1);
  const fields = join(u(1, 3), u(1, me.version), u(1, me.role), u(8, me.boot), lp(me.ring), lp(me.name));
  const claim = join(u(2, fields.length + 32), fields);
  const authI = join(claim, hmac(mine, claim));
  write(authI);
  const length = await read(2).catch((error) => fail("AuthFailed", `${error.message}: another cookie?`, true));
  const size = length.readUInt16BE();
  if (size < 46 || size > 173) fail("ProtocolError", "a proof of a wrong length", true);
  const authR = join(length, await read(size));
  const [told, mac] = [authR.subarray(0, -32), authR.subarray(-32)];
  if (!timingSafeEqual(mac, hmac(theirs, authI, told))) fail("AuthFailed", "the node does not know the cookie", true);
  const [kind, version, status, boot, nameAt] = [told[2], told[3], told[4], told.readBigUInt64BE(5), 14 + told[13]];
  const [ring, name] = [told.toString("latin1", 14, nameAt), told.toString("latin1", nameAt + 1)];
  const legal = /^[\w.-]{0,64}$/.test(ring) && /^[\w.-]{1,64}$/.test(name) && told[nameAt] === name.length;
  if (kind !== 4 || !boot || !legal || !STATUS[status]) fail("ProtocolError", "a proof with malformed fields");
  const who = `node ${name}, version ${version}, ring ${ring || "none"}`;
  if (status !== 0) fail("Refused", `${STATUS[status]} by ${who}`);
  if (version !== me.version) fail("VersionMismatch", who);
  if (me.ring && ring !== me.ring) fail("WrongRing", who);
  if (known && name !== known.name) fail("WrongNode", who);
  if (known && boot < known.boot) fail("OldIncarnation", who);
  return [{ name, boot }, twoKeys(cookie, "clusterkit/1 records", sha256(t1, authI, authR))];
}

// -- Records (§3): lists of parts, each a pair of kind and body
const [RESUME, DATA, ACK, PING, PONG, GOODBYE] = [1, 2, 3, 4, 5, 6];
const BODY = { [RESUME]: 28, [ACK]: 8, [PING]: 8, [PONG]: 8, [GOODBYE]: 1 };
const tag = (key, n, signed) => hmac(key, u(8, n), signed).subarray(0, 16);

export function records({ read, write }, [keyOut, keyIn]) {
  let [sent, came] = [0, 0];
  const send = (...parts) => {
    const payload = join(...parts.flatMap(([kind, body]) => [u(4, body.length + 1), u(1, kind), body]));
    const signed = join(u(4, payload.length), payload);
    write(join(signed, tag(keyOut, sent++, signed)));
  };
  const receive = async () => {
    const [n, length] = [came++, await read(4)];
    const size = length.readUInt32BE();
    if (n === 0 ? size !== 33 : size < 5 || size > MAX) fail("LinkLost", `a record of ${size} bytes`, true);
    const signed = join(length, await read(size));
    if (!timingSafeEqual(await read(16), tag(keyIn, n, signed))) fail("LinkLost", "a record with a wrong tag", true);
    const parts = [];
    for (let rest = signed.subarray(4), end; rest.length > 0; rest = rest.subarray(end)) {
      end = rest.length < 5 ? Infinity : 4 + rest.readUInt32BE();
      const [kind, body] = [rest[4], rest.subarray(5, end)];
      const fits = end <= rest.length && (kind === DATA ? body.length > 0 : body.length === BODY[kind]);
      parts.push(fits ? [kind, body] : fail("ProtocolError", `a part of kind ${kind} that does not fit`));
    }
    const order = parts.map(([kind]) => kind).join("");
    if (!(n === 0 ? /^1$/ : /^[345]*2?[345]*6?$/).test(order)) fail("ProtocolError", `parts ${order} in record ${n}`);
    return parts;
  };
  return { send, receive };
}

// -- The session (§4) of one call (§6, §8)
const [CALL, REPLY, ERROR] = [1, 4, 5];

function dial(host, port) {
  const socket = connect({ host, port, noDelay: true }).on("error", () => {}); // read tells it
  const chunks = socket[Symbol.asyncIterator]();
  let came = Buffer.alloc(0);
  const read = async (size) => {
    while (came.length < size) {
      const { value } = await chunks.next().catch((error) => fail("LinkLost", error.message || error.code, true));
      came = join(came, value ?? fail("LinkLost", "closed by the node", true));
    }
    const bytes = came.subarray(0, size);
    came = came.subarray(size);
    return bytes;
  };
  return { read, write: (bytes) => socket.write(bytes), cut: (why) => socket.destroy(new Error(why)) };
}

/** One link of the session, from HELLO to GOODBYE if it lasts so long; returns the answer. */
async function converse(stream, cookie, me, session) {
  const [node, keys] = await handshake(stream, cookie, me, session.node);
  if (session.node && node.boot > session.node.boot) fail("NodeDown", "the node was started anew (executed: maybe)");
  const { send, receive } = records(stream, keys);
  const acknowledge = (n) => (session.acked <= n && n <= 1n ? (session.acked = n) : fail("ProtocolError", `ACK ${n}`));
  send([RESUME, join(u(8, 1), u(8, session.peer), u(8, session.received), u(4, MAX))]);
  const [[, body]] = await receive();
  const [own, peer, received, max] = [...[0, 8, 16].map((at) => body.readBigUInt64BE(at)), body.readUInt32BE(24)];
  if (!own || max < 1 << 16 || max > 1 << 26) fail("ProtocolError", "a RESUME out of range");
  if (own < session.peer) fail("LinkLost", "a RESUME older than one seen", true);
  if (own > session.peer && session.peer) fail("NodeDown", "the node ended the session (executed: maybe)");
  if (own === session.peer) acknowledge(peer === 1n ? received : 0n);
  Object.assign(session, { node, peer: own });
  if (!session.acked) send([DATA, session.messages]);
  let answer;
  while (!answer) {
    const back = [];
    for (const [kind, body] of await receive()) {
      if (kind === PING) back.push([PONG, body]);
      if (kind === ACK) acknowledge(body.readBigUInt64BE());
      if (kind === GOODBYE && !answer && body[0] === 3) fail("LinkLost", "the node wants another link", true);
      if (kind === GOODBYE && !answer) fail("NodeDown", `the node said goodbye, ${body[0]} (executed: maybe)`);
      if (kind !== DATA) continue;
      const messages = unpack(body);
      if (!messages.every?.(([op]) => op === REPLY || op === ERROR)) fail("ProtocolError", "a DATA of no answers");
      session.received += BigInt(messages.length);
      back.push([ACK, u(8, session.received)]);
      answer = messages.find(([, id]) => id === 1);
    }
    if (back.length > 0) send(...back);
  }
  send([GOODBYE, u(1, 1)]);
  setTimeout(stream.cut, 1000).unref();
  await stream.read(Infinity).catch(() => {}); // until the node closes too (§5.2)
  return answer;
}

/** Calls the command server of a node. A connection that is lost meanwhile is made anew. */
export async function call(host, port, cookie, handler, args, ring = "") {
  if (Buffer.byteLength(cookie) < 16) fail("ConfigError", "a cookie has at least 16 bytes (§1)");
  const boot = (BigInt(Date.now() - Date.UTC(2020)) << 22n) | BigInt(randomBytes(4).readUInt32BE() >>> 10);
  const me = { version: 1, role: 2, boot, ring, name: `cli-${randomBytes(6).toString("hex")}` };
  const message = pack([CALL, 1, "clusterkit.command", handler, DEADLINE, pack(args)]);
  const session = { node: null, peer: 0n, received: 0n, acked: 0n, messages: join(u(1, 0x91), message) }; // of one
  for (const end = Date.now() + DEADLINE; ; await new Promise((go) => setTimeout(go, 100))) {
    const stream = dial(host, port);
    setTimeout(stream.cut, end - Date.now(), `no answer within ${DEADLINE} ms (executed: maybe)`).unref();
    try {
      const [op, , ...rest] = await converse(stream, cookie, me, session);
      const told = unpack(rest.at(-1));
      if (op === REPLY) return told;
      const text = rest[0] === "raised" ? `${told.type}: ${told.text}` : told; // §6.2, §6.3
      fail("CallFailed", `${rest[0]}: ${text} (executed: ${rest[1] ? "maybe" : "no"})`);
    } catch (error) {
      stream.cut();
      if (!error.lost || !session.node || Date.now() >= end) throw error;
    }
  }
}

// -- The program
async function main([host, port, command, ...rest]) {
  const usage = "HOST PORT ping | members | ask NODE SERVER EVENT [JSON]";
  if (!{ __proto__: null, ping: [0], members: [0], ask: [3, 4] }[command]?.includes(rest.length)) fail("usage", usage);
  const args = command === "ask" ? [...rest.slice(0, 3), JSON.parse(rest[3] ?? "null"), DEADLINE / 1000 - 0.5] : [];
  const told = await call(host, Number(port), process.env.CLUSTERKIT_COOKIE ?? "", command, args);
  if (command === "ask" && !told.ok) fail(told.error, `${told.message} (executed: ${told.executed})`);
  console.log(JSON.stringify(command === "ask" ? told.value : told, null, 2));
}

if (process.argv[1]?.endsWith("client.mjs")) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 1;
  });
}
