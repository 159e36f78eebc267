// A server with a CRM beside it, and events of every kind in its database.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const TOKEN = 'a-token-for-this-check-and-no-other';
export const READER = 'a-readers-token-for-this-check-only';
const SECRET = 'a-secret-for-this-check-and-no-other';
const SHOP_SECRET = 'another-secret-for-the-shop-of-this-check';
export const HOSTILE = '<script>alert(1)</script>\u202E"\'x';

// Contacts for which the CRM fails. A test empties it to let replays work.
const failing = new Map([['customer-1042', 503], ['customer-77', 403]]);
export const mendTheCrm = () => failing.clear();

async function listen(server) {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server.address().port;
}

// A CRM that knows everybody.
function crm() {
  return createServer((request, response) => {
    const asked = new URL(request.url, 'http://crm');
    const key = [...asked.searchParams.values()][0] ?? decodeURIComponent(asked.pathname.split('/').pop());
    const status = [...failing].find(([contact]) => request.url.includes(contact))?.[1] ?? 200;
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(status === 200
      ? JSON.stringify({ externalId: key, id: `crm-${key}`, name: 'Ada Example', segment: 'gold', since: '2019-04-01' })
      : '{"error":"not now"}');
  });
}

export class Site {
  static async start() {
    const site = new Site();
    site.crm = crm();
    const crmPort = await listen(site.crm);
    site.folder = mkdtempSync(join(tmpdir(), 'console-check-'));
    const variables = {
      PATH: process.env.PATH,
      COGNIGY_LISTEN: '127.0.0.1:0',
      COGNIGY_DATABASE_URL: `sqlite:${join(site.folder, 'webhooks.db')}`,
      COGNIGY_WEBHOOK_SECRET: SECRET,
      COGNIGY_ADMIN_TOKEN: TOKEN,
      COGNIGY_OPERATOR_RITA_TOKEN: READER,
      COGNIGY_OPERATOR_RITA_ROLE: 'reader',
      COGNIGY_SOURCES: 'shop',
      COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET: SHOP_SECRET,
      COGNIGY_RETRY_MAX_ATTEMPTS: '3',
      COGNIGY_RETRY_BASE_DELAY: '50ms',
      COGNIGY_LOG_FORMAT: 'json',
      COGNIGY_CONVERSATION_POINTER: '/payload/sessionId',
      CRM_BASE_URL: `http://127.0.0.1:${crmPort}`,
      CRM_TOKEN: 'a-crm-token-for-this-check',
    };
    site.server = spawn(process.env.SERVER, ['serve'], { env: variables, cwd: site.folder, stdio: ['ignore', 'ignore', 'pipe'] });
    site.address = await new Promise((found, failed) => {
      let log = '';
      site.server.stderr.on('data', (bytes) => {
        log += bytes;
        const listening = log.match(/"message":"listening","address":"([^"]+)"/) ?? log.match(/"address":"([^"]+)"/);
        if (listening) found(listening[1]);
      });
      site.server.on('exit', () => failed(new Error(`the server ended: ${log}`)));
    });
    site.url = `http://${site.address}`;
    return site;
  }

  async stop() {
    this.server.removeAllListeners('exit');
    this.server.kill('SIGKILL');
    this.crm.closeAllConnections();
    this.crm.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async deliver(body, { path = '/webhooks/cognigy', secret = SECRET } = {}) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const signature = createHmac('sha256', secret).update(text).digest('base64');
    const answer = await fetch(this.url + path, { method: 'POST', body: text, headers: { 'X-Cognigy-Signature': signature } });
    return answer.status;
  }

  async admin(path) {
    const answer = await fetch(this.url + path, { headers: { Authorization: `Bearer ${TOKEN}` } });
    return answer.json();
  }

  // Some events of each kind.
  async seed() {
    await this.#some();
    await this.until('every event is finished', async () => (await this.admin('/admin/stats')).events.waiting === 0);
  }

  // Traffic like that of a shop, for charts with something in them.
  async live(minutes) {
    const end = Date.now() + minutes * 60_000;
    for (let number = 1000; Date.now() < end; number += 1) {
      const minute = Date.now() / 60_000;
      const many = 4 + 3 * Math.sin(minute / 4) + 2 * Math.sin(minute * 1.7) + (number % 7 === 0 ? 3 : 0);
      for (let place = 0; place < many; place += 1) {
        const id = `evt_01J9${(number * 16 + place).toString(36).toUpperCase()}`;
        const contact = number % 41 === 0 && place === 0 ? 'customer-1042' : `customer-${1001 + (number + place) % 40}`;
        await this.deliver({ eventId: id, timestamp: new Date().toISOString(), type: 'USER_INPUT_RECEIVED', externalId: contact, userId: `user-${number % 9}`, payload: { sessionId: `session-${number % 50}`, input: { text: 'Where is my parcel?' } } });
      }
      await new Promise((done) => setTimeout(done, 3000));
    }
  }

  async #some() {
    const words = ['Where is my parcel?', 'I would like to change my address', 'Please call me back', 'Thanks!'];
    const types = ['DIALOG_STARTED', 'USER_INPUT_RECEIVED', 'USER_INPUT_RECEIVED', 'PROFILE_UPDATED', 'DIALOG_ENDED'];
    const event = (number, contact, more = {}) => ({
      eventId: `evt_01J8Q${(number * 7919 % 100000).toString().padStart(5, '0')}`,
      timestamp: new Date(Date.now() - number * 1000).toISOString(),
      type: types[number % types.length],
      externalId: contact,
      userId: `user-${number % 9}`,
      payload: types[number % types.length] === 'PROFILE_UPDATED'
        ? { profile: { language: 'en', newsletter: number % 2 === 0 } }
        : { input: { text: words[number % words.length] }, sessionId: `session-${number % 5}`, channel: 'webchat' },
      ...more,
    });
    for (let number = 0; number < 120; number += 1) await this.deliver(event(number, `customer-${1001 + number % 23}`));
    for (let number = 200; number < 212; number += 1) await this.deliver(event(number, `customer-${2001 + number}`), { path: '/webhooks/cognigy/shop', secret: SHOP_SECRET });
    for (let number = 300; number < 304; number += 1) await this.deliver(event(number, 'customer-1042'));
    for (let number = 310; number < 312; number += 1) await this.deliver(event(number, 'customer-77'));
    const twice = event(120, 'customer-1005', { eventId: 'evt_conflict' });
    await this.deliver(twice);
    await this.deliver({ ...twice, payload: { input: { text: 'Please cancel my order' }, sessionId: 'session-0', channel: 'webchat', retry: 2 } });
    await this.deliver(twice);
    await this.deliver('{"eventId":"evt_broken","type":"USER_INPUT_RECEIVED"}');
    await this.deliver('{"eventId":');
    await this.deliver(event(1, 'customer-1'), { secret: 'wrong' });
    await this.deliver(event(400, `c-${HOSTILE}`, { eventId: HOSTILE, payload: { input: { text: HOSTILE } } }));
  }

  async until(what, ask) {
    for (let tries = 0; tries < 200; tries += 1) {
      if (await ask()) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    throw new Error(`it never happened: ${what}`);
  }
}
