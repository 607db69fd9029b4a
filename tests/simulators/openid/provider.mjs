// A real OpenID provider on loopback, for tests: oidc-provider with its own forms to sign in.
//
// Usage: node provider.mjs FOLDER READY: FOLDER has node_modules; READY is written once it listens.
// Whoever starts it changes it by POST /control: which clients there are, who is in which groups,
// which keys it signs with.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, ready] = process.argv.slice(2);
const module = join(folder, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { Provider } = await import(pathToFileURL(module));

const state = {
  issuer: '',
  clients: [],
  groups: {},
  groupsIn: 'id_token',
  deviceInterval: 1,
  deviceTtl: 600,
  keys: [newKey(1)],
  requests: {},
};
const secret = randomBytes(32).toString('hex');
let current;

function newKey(number) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, use: 'sig', alg: 'RS256' };
}

function made() {
  const provider = new Provider(state.issuer, {
    clients: state.clients,
    jwks: { keys: state.keys },
    cookies: { keys: [secret] },
    claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
    conformIdTokenClaims: state.groupsIn === 'userinfo',
    ttl: { DeviceCode: () => state.deviceTtl },
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true },
      userinfo: { enabled: true },
    },
    // Its own way refuses to call clients on loopback, where all of ours are.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, preferred_username: id, groups: state.groups[id] ?? [] }),
    }),
  });
  // Where it calls a client, it says how that went.
  provider.on('backchannel.error', (_ctx, error) => console.error('backchannel', error));
  return provider.callback();
}

function change(asked) {
  Object.assign(state, asked.set ?? {});
  if (asked.rotate) state.keys = [newKey(Number(state.keys[0].kid.slice(4)) + 1)];
  current = made();
  return { kids: state.keys.map((key) => key.kid), requests: state.requests };
}

const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://x').pathname;
  if (path !== '/control') {
    state.requests[path] = (state.requests[path] ?? 0) + 1;
    current(request, response);
    return;
  }
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const answer = change(JSON.parse(Buffer.concat(pieces).toString()));
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answer));
  });
});

server.listen(Number(process.env.OPENID_PORT), '127.0.0.1', () => {
  state.issuer = `http://127.0.0.1:${server.address().port}`;
  current = made();
  const partial = `${ready}.partial`;
  writeFileSync(partial, JSON.stringify({ pid: process.pid, issuer: state.issuer }));
  renameSync(partial, ready);
});
process.on('SIGTERM', () => process.exit(0));
