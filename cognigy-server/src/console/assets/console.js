// Writes times in the viewer's zone, keeps marked parts of a page up to date, and copies blocks of text.
// Every page works without it.
'use strict';

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC';
const shape = { year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' };
const inZone = new Intl.DateTimeFormat(undefined, shape);

function localise(root) {
  for (const time of root.querySelectorAll('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime()) || time.title) continue;
    time.title = time.textContent;
    time.textContent = inZone.format(at);
  }
}

function offerCopies(root) {
  if (!navigator.clipboard) return;
  for (const block of root.querySelectorAll('[data-copy]')) {
    const text = block.querySelector('pre');
    if (!text || block.querySelector('button')) continue;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    button.setAttribute('aria-label', 'Copy: ' + text.getAttribute('aria-label'));
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not copied';
      }
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    });
    block.append(button);
  }
}

// Whether a change would take something out of the viewer's hands.
function isInUse(part) {
  const selection = getSelection();
  return (selection && !selection.isCollapsed && part.contains(selection.anchorNode))
    || part.querySelector('details.danger[open]') !== null;
}

// Puts the focus back to where it was.
function keepFocus(part, replace) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const open = [...part.querySelectorAll('details')].map((it) => it.open);
  const address = focused && focused.getAttribute('href');
  const place = focused ? [...part.querySelectorAll(focused.tagName)].indexOf(focused) : -1;
  replace();
  [...part.querySelectorAll('details')].forEach((it, at) => { it.open = open[at] ?? it.open; });
  if (!focused) return;
  const links = [...part.querySelectorAll('a[href]')];
  const same = address && links.find((link) => link.getAttribute('href') === address);
  const other = part.querySelectorAll(focused.tagName)[place];
  (same || other)?.focus({ preventScroll: true });
}

async function fetchAgain() {
  const answer = await fetch(location.href, { credentials: 'same-origin', cache: 'no-store' });
  if (answer.redirected) throw new Error('The session is over: reload the page to sign in.');
  if (!answer.ok) throw new Error('The server does not answer as it should.');
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  for (const part of document.querySelectorAll('[data-live]')) {
    const other = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!other || isInUse(part)) continue;
    keepFocus(part, () => part.replaceChildren(...other.childNodes));
    if (!other.dataset.poll) delete part.dataset.poll;
    localise(part);
  }
}

function follow(place) {
  const told = document.createElement('span');
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'quiet';
  place.append(told, button);
  place.hidden = false;
  let events = null;
  let isFetching = false;
  let again = false;

  const show = (state, text) => {
    place.dataset.state = state;
    told.textContent = text;
    button.textContent = events ? 'Pause' : 'Resume';
    button.setAttribute('aria-label', events ? 'Pause the updates' : 'Resume the updates');
  };
  const stop = (state, text) => {
    events?.close();
    events = null;
    show(state, text);
  };
  const refresh = async () => {
    if (isFetching) { again = true; return; }
    isFetching = true;
    try {
      await fetchAgain();
      if (events) show('live', 'Live');
    } catch (error) {
      stop('over', error.message);
    }
    isFetching = false;
    if (again && events) { again = false; refresh(); }
  };
  const begin = () => {
    let isFirst = true;
    events = new EventSource(place.dataset.liveState);
    show('waiting', 'Connecting …');
    events.onopen = () => show('live', 'Live');
    events.onmessage = () => {
      // The first message tells the state of the page that was just loaded.
      if (isFirst && place.dataset.fresh) { isFirst = false; return; }
      isFirst = false;
      refresh();
    };
    events.onerror = () => {
      if (!events) return;
      if (events.readyState === EventSource.CLOSED) stop('over', 'No updates: reload the page.');
      else show('waiting', 'Connecting again …');
    };
  };
  // A page in a hidden tab holds no connection: a browser has few for each server.
  let isHidden = false;
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && events) {
      isHidden = true;
      stop('paused', 'Paused while hidden');
    } else if (!document.hidden && isHidden) {
      isHidden = false;
      delete place.dataset.fresh;
      begin();
    }
  });
  button.addEventListener('click', () => {
    delete place.dataset.fresh;
    if (events) stop('paused', 'Paused');
    else begin();
  });
  place.dataset.fresh = '1';
  begin();
}

// A page whose end is near is fetched again until it is there.
function poll() {
  const next = async () => {
    if (!document.querySelector('[data-poll]')) return;
    try { await fetchAgain(); } catch { return; }
    setTimeout(next, 1000);
  };
  if (document.querySelector('[data-poll]')) setTimeout(next, 1000);
}

localise(document);
offerCopies(document);
for (const place of document.querySelectorAll('[data-zone]')) place.textContent = zone;
const place = document.querySelector('[data-live-state]');
if (place && window.EventSource) follow(place);
poll();
