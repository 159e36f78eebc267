// Drives the console in headless Chromium. `scripts/checks/console` says what for, and installs it.

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { HOSTILE, READER, Site, TOKEN, mendTheCrm } from './site.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const pictures = join(import.meta.dirname, 'screenshots');
rmSync(pictures, { recursive: true, force: true });
mkdirSync(pictures, { recursive: true });

const problems = [];
const wrong = (what) => { problems.push(what); console.error(`  WRONG ${what}`); };
const sure = (is, what) => { if (!is) wrong(what); };

const site = await Site.start();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--no-first-run'],
});

// A window that may ask this server only, and log no error.
async function open(options, token = TOKEN) {
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'Europe/Berlin', viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.expected = 0;
  page.on('request', (request) => {
    if (!request.url().startsWith(site.url) && !request.url().startsWith('data:')) wrong(`a request to ${request.url()}`);
  });
  page.on('console', (message) => {
    // Chromium logs each answer from 400 on, which some steps here ask for.
    if (message.type() === 'error' && !(page.expected && /status of/.test(message.text()))) wrong(`${page.url()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => wrong(`${page.url()}: ${error}`));
  page.on('dialog', (dialog) => { wrong(`a script of a sender ran: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(`${site.url}/console`);
  if (token) {
    await page.fill('#token', token);
    await page.click('button.main');
    await page.waitForURL(`${site.url}/console`);
  }
  return page;
}

async function fits(page, name) {
  const wide = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
  sure(wide <= 0, `${name}: scrolls sideways by ${wide} pixels`);
}

async function checked(page, name) {
  const found = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`);
  for (const { id, nodes } of found.violations) wrong(`${name}: axe: ${id}: ${nodes.slice(0, 3).map((it) => it.html.slice(0, 160)).join(' | ')}`);
  await fits(page, name);
}

const address = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;

async function pages() {
  const { items } = await site.admin('/admin/quarantine');
  const conflict = items.find((item) => item.reason === 'conflict');
  const { groups } = await site.admin('/admin/errors');
  const dead = (await site.admin('/admin/events?status=dead_lettered')).events[0].event_id;
  return {
    overview: '/console',
    events: '/console/events',
    'events-filtered': '/console/events?status=processed&external_id=customer-1005&from=1h',
    'events-none': '/console/events?user=nobody',
    event: address('/console/event', { source: 'cognigy', id: dead }),
    'event-processed': address('/console/event', { source: 'cognigy', id: 'evt_conflict' }),
    'event-hostile': address('/console/event', { source: 'cognigy', id: HOSTILE }),
    contact: '/console/contact?key=customer-1042',
    errors: '/console/errors',
    'dead-letters': '/console/dead-letters',
    'dead-letters-none': '/console/dead-letters?status=discarded',
    'replay-new': address('/console/replays/new', { error: groups[0].class }),
    'discard-new': '/console/discards/new?status=dead_lettered',
    replays: '/console/replays',
    quarantine: '/console/quarantine',
    quarantined: address('/console/quarantined', { id: conflict.id }),
    sources: '/console/sources',
    audit: '/console/audit',
    settings: '/console/settings',
  };
}

async function everyPage(name, options) {
  const page = await open(options);
  for (const [place, path] of Object.entries(await pages())) {
    await page.goto(site.url + path);
    // The event stream never ends, so that the network is never idle.
    await page.waitForTimeout(60);
    await checked(page, `${place} (${name})`);
    await page.screenshot({ path: join(pictures, `${place}-${name}.png`), fullPage: true });
  }
  await page.goto(`${site.url}/console`);
  await page.keyboard.press('Tab');
  sure(await page.evaluate("document.activeElement.className") === 'skip', `${name}: the first stop is not the skip link`);
  await page.context().close();
}

async function signIn() {
  for (const colorScheme of ['light', 'dark']) {
    const page = await open({ colorScheme, viewport: { width: 360, height: 740 } }, null);
    await checked(page, `sign-in (${colorScheme})`);
    await page.screenshot({ path: join(pictures, `sign-in-${colorScheme}.png`) });
    page.expected = 1;
    await page.fill('#token', 'wrong');
    await page.click('button.main');
    sure(await page.textContent('[role=alert]').then((it) => it.includes('no operator')), 'a wrong token is not told');
    await checked(page, `sign-in refused (${colorScheme})`);
    await page.context().close();
  }
}

async function otherWidths() {
  const page = await open({});
  for (const width of [320, 768, 1000, 1920]) {
    await page.setViewportSize({ width, height: 800 });
    for (const [place, path] of Object.entries(await pages())) {
      await page.goto(site.url + path);
      await fits(page, `${place} (${width} pixels)`);
      if (width === 768) await page.screenshot({ path: join(pictures, `${place}-${width}.png`) });
    }
  }
  await page.context().close();
}

async function withoutScript() {
  const page = await open({ javaScriptEnabled: false });
  for (const [place, path] of Object.entries(await pages())) {
    const answer = await page.goto(site.url + path);
    sure(answer.status() === 200 && await page.locator('h1').count() === 1, `${place} without script`);
  }
  await page.context().close();
}

async function live(page) {
  await page.goto(`${site.url}/console/events`);
  await page.waitForSelector('[data-state=live]');
  const id = 'evt_live';
  await site.deliver({ eventId: id, timestamp: new Date().toISOString(), type: 'DIALOG_STARTED', externalId: 'customer-9', payload: {} });
  await page.waitForSelector(`text=${id}`);
  const time = await page.locator('td time').first().evaluate((it) => [it.title, it.textContent]);
  sure(time[0].endsWith('UTC') && time[1] !== time[0], `a time is not in the viewer's zone: ${time}`);
  await page.click('.live button');
  sure(await page.textContent('.live span') === 'Paused', 'the updates cannot be paused');
}

const button = (page, name) => page.getByRole('button', { name }).first().click();
const link = (page, name) => page.getByRole('link', { name }).first().click();
const seen = async (page, text) => sure((await page.textContent('main')).includes(text), `${page.url()} does not say ${text}`);

async function actions() {
  const page = await open({});
  await live(page);
  const dead = (await site.admin('/admin/events?status=dead_lettered&external_id=customer-77')).events;
  page.expected = 1;
  await page.goto(site.url + address('/console/event', { source: 'cognigy', id: dead[0].event_id }));
  await button(page, 'Replay now');
  await seen(page, 'Replay failed');
  await checked(page, 'a replay that failed');
  page.expected = 0;
  mendTheCrm();
  await page.goto(site.url + address('/console/event', { source: 'cognigy', id: dead[0].event_id }));
  await button(page, 'Rehearse');
  await seen(page, 'A replay would end differently.');
  await checked(page, 'a rehearsal');
  await page.goto(site.url + address('/console/event', { source: 'cognigy', id: dead[0].event_id }));
  await button(page, 'Replay now');
  await seen(page, 'was run again');
  await page.screenshot({ path: join(pictures, 'event-replayed.png'), fullPage: true });
  await page.goto(site.url + address('/console/event', { source: 'cognigy', id: dead[1].event_id }));
  await button(page, 'Discard');
  await seen(page, 'was discarded');

  await page.goto(`${site.url}/console/errors`);
  await page.getByRole('link', { name: /^Replay …/ }).first().click();
  await page.fill('#rate', '1');
  await button(page, /^Replay/);
  await page.waitForSelector('progress');
  await checked(page, 'a replay that runs');
  await page.screenshot({ path: join(pictures, 'replay-running.png') });
  await button(page, 'Cancel');
  await seen(page, 'cancelled');
  await page.goto(`${site.url}/console/dead-letters`);
  await link(page, 'Replay …');
  await button(page, /^Replay/);
  await page.waitForSelector('text=done');
  await checked(page, 'a replay that is done');
  await page.goto(`${site.url}/console/replays`);
  await checked(page, 'replays');
  await page.screenshot({ path: join(pictures, 'replays-some.png') });

  page.expected = 1;
  await page.goto(`${site.url}/console/quarantine`);
  await page.getByRole('link', { name: /^Body/ }).first().click();
  await button(page, 'Try again');
  await seen(page, 'Still in quarantine');
  page.expected = 0;
  await link(page, 'Back');
  await button(page, 'Discard');
  await page.waitForURL(`${site.url}/console/quarantine`);
  sure(await page.locator('tbody tr').count() === 2, 'a body that was discarded is still in quarantine');

  await page.goto(`${site.url}/console/sources`);
  await button(page, /^Pause shop/);
  await seen(page, 'Paused by admin');
  await checked(page, 'a paused source');
  await page.goto(`${site.url}/console`);
  await seen(page, 'is paused by');
  await page.screenshot({ path: join(pictures, 'overview-paused.png'), fullPage: true });
  await page.goto(`${site.url}/console/sources`);
  await button(page, /^Resume/);

  await site.deliver({ eventId: 'evt_dead', timestamp: new Date().toISOString(), type: 'DIALOG_STARTED', externalId: 'customer-9', payload: {} });
  await page.goto(`${site.url}/console/contact?key=customer-1042`);
  await page.click('details.danger summary');
  await checked(page, 'an erasure before it is confirmed');
  await page.check('input[value=external_id]');
  await page.check('input[name=confirmed]');
  await page.getByRole('button', { name: 'Erase' }).click();
  await seen(page, 'Erased: 4 events');
  await checked(page, 'a receipt');
  await page.goto(`${site.url}/console/audit`);
  await checked(page, 'audit with entries');
  await page.screenshot({ path: join(pictures, 'audit-some.png') });
  await button(page, 'Sign out');
  sure(page.url() === `${site.url}/console/sign-in`, 'the sign-out leads elsewhere');
  await page.context().close();
}

async function readers() {
  const page = await open({}, READER);
  for (const [place, path] of Object.entries(await pages())) {
    if (place.endsWith('-new')) continue;
    await page.goto(site.url + path);
    sure(await page.locator('main form[method=post]').count() === 0, `${place} offers a reader a change`);
  }
  await page.context().close();
}

async function images(folder) {
  mkdirSync(folder, { recursive: true });
  const all = await pages();
  for (const [name, place, options] of [
    ['console-overview', 'overview', { colorScheme: 'light' }],
    ['console-event-dark', 'event', { colorScheme: 'dark' }],
    ['console-quarantine', 'quarantined', { colorScheme: 'light' }],
    ['console-phone', 'overview', { colorScheme: 'dark', viewport: { width: 360, height: 740 } }],
  ]) {
    const page = await open(options);
    await page.goto(site.url + all[place]);
    await page.waitForTimeout(800);
    await page.screenshot({ path: join(folder, `${name}.png`) });
    await page.context().close();
  }
}

const step = async (name, work) => {
  const started = Date.now();
  await work().catch((error) => wrong(`${name}: ${error.stack ?? error}`));
  console.log(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
};

try {
  await step('seed', () => site.seed());
  if (process.env.IMAGES) {
    await step('traffic', () => site.live(Number(process.env.TRAFFIC_MINUTES ?? 0)));
    await step('images', () => images(process.env.IMAGES));
  }
  await step('sign-in', signIn);
  for (const colorScheme of ['light', 'dark']) {
    await step(`every page, ${colorScheme}`, () => everyPage(colorScheme, { colorScheme }));
    await step(`every page, ${colorScheme}, phone`, () => everyPage(`${colorScheme}-phone`, { colorScheme, viewport: { width: 360, height: 740 } }));
  }
  await step('other widths', otherWidths);
  await step('without script', withoutScript);
  await step('readers', readers);
  await step('actions', actions);
} finally {
  await browser.close();
  await site.stop();
}
console.log(problems.length ? `${problems.length} problems` : `no problem; screenshots are in ${pictures}`);
process.exit(problems.length ? 1 : 0);
