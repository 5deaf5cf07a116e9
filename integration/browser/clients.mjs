// The broker's clients: pages of old that redeem their tickets themselves, and the broker's pages in their logins.
import assert from 'node:assert/strict';
import {
  act, AskPage, auth, authorizePath, calls, campaign, config, cookieless, device, go, heard, knobs, lottery, office, other, tab, tap, tokenPath, wantPage, weixin,
} from './lib.mjs';

const appID = 'wx0123456789abcdef';
const start = (to, params = '', more = '') => `${auth}/auth/${appID}?redirect_uri=${encodeURIComponent(to)}&params=${encodeURIComponent(params)}${more}`;
const allow = (page) => tap(page, page.getByRole('link', { name: '允许' }));

/** inBoth plays a scenario in Chinese and in English, on a phone and, where it says so, on a desktop. */
const inBoth = (play, agents = ['wechat']) => async () => {
  for (const locale of ['zh-CN', 'en-US']) {
    for (const agent of agents) {
      await knobs(null);
      await play({ locale, agent });
    }
  }
};

/** redeemed is the user that a client's own page shows. */
async function redeemed(page) {
  await page.waitForFunction(() => document.title === 'done');
  return JSON.parse(await page.locator('#user').textContent());
}

/** wantRedeeming asserts that nothing was heard but tickets' redeeming by other origins: that is what these pages do. */
function wantRedeeming() {
  const others = heard().filter((complaint) => !complaint.startsWith(`foreign request: ${auth}/ticket/`) && !complaint.startsWith(`request for ${auth}/ticket/`));
  assert.deepEqual(others, []);
}

/** ticketFor logs in for a client, and returns the ticket before anything has redeemed it. */
async function ticketFor(context, to) {
  const page = await tab(context);
  await go(page, start(to));
  const ticket = new URL(page.url()).searchParams.get('ticket');
  assert.match(ticket, /^[0-9a-f]{32}$/);
  await page.close();
  return ticket;
}

/** read is what a script of that page gets for a ticket: a status, or nothing at all. */
async function read(context, at, ticket) {
  const page = await tab(context);
  await go(page, at);
  const status = await page.evaluate((url) => fetch(url).then((r) => r.json().then(() => r.status, () => r.status), () => 'unreadable'), `${auth}/ticket/${ticket}`);
  await page.close();
  return status;
}

export default {
  'a public client\'s page redeems its ticket by itself, with and without a slash': async () => {
    await knobs({ User: 'lina' });
    for (const name of ['page', 'slash']) {
      const page = await tab(await device());
      await page.goto(`${campaign}/client/${name}.html?a=1&b=%E4%BD%A0`);
      const user = await redeemed(page);
      assert.equal(page.url().replace(/#.*$/, ''), `${campaign}/client/${name}.html?a=1&b=%E4%BD%A0`, 'the ticket is out of the address bar');
      assert.equal(user.openid, config.openids.lina);
      assert.equal(user.state, '?a=1&b=%E4%BD%A0');
      assert.equal(Object.keys(user).length, 15);
      assert.equal(user.nickname, null);
    }
    wantRedeeming();
  },

  'no page but the client\'s own can read what a ticket stands for': async () => {
    await knobs({ User: 'lina' });
    const to = `${campaign}/client/quiet`;
    for (const [at, want] of [[to, 200], [`${lottery}/client/quiet`, 'unreadable'], [`${office}/client/quiet`, 'unreadable'], [other, 'unreadable']]) {
      const context = await device();
      assert.equal(await read(context, at, await ticketFor(context, to)), want, `read by ${at}`);
    }
    // Nor can a script send the secret of a client that has one.
    const context = await device();
    const page = await tab(context);
    await go(page, `${office}/client/quiet`);
    const sent = await page.evaluate((url) => fetch(url, { headers: { Authorization: 'Basic eDp5' } }).then((r) => r.status, () => 'unreadable'), `${auth}/ticket/00112233445566778899aabbccddeeff`);
    assert.equal(sent, 'unreadable');
    wantRedeeming();
  },

  'two clients\' logins in two tabs at once stay apart': async () => {
    for (const order of [[0, 1], [1, 0]]) {
      await knobs(null);
      await knobs({ Consent: AskPage });
      const context = await device();
      const tabs = [await tab(context), await tab(context)];
      const sites = [`${lottery}/client/page.html`, `${office}/client/quiet`];
      await Promise.all(tabs.map((page, i) => go(page, i === 0 ? sites[0] : start(sites[1], 'tab1', `&scope=snsapi_base`))));
      await tabs[0].waitForURL((url) => url.origin === weixin);
      assert.ok(tabs[1].url().startsWith(weixin), 'both wait at WeChat');
      for (const i of order) await allow(tabs[i]);
      const user = await redeemed(tabs[0]);
      assert.equal(user.state, '');
      assert.equal(user.openid, config.openids.zhangwei);
      const back = new URL(tabs[1].url());
      assert.equal(back.origin + back.pathname, sites[1]);
      assert.equal(back.searchParams.get('state'), 'tab1');
      assert.match(back.searchParams.get('ticket'), /^[0-9a-f]{32}$/);
    }
    wantRedeeming();
  },

  'a login that no client may have leads to a page that tells a visitor enough': inBoth(async ({ locale, agent }) => {
    const page = await tab(await device({ locale, agent }));
    await go(page, start('https://evil.example.net/x'));
    await wantPage(page, 'address', { status: 400, buttons: 0 });
    assert.ok(!(await page.content()).includes('evil.example.net'));
    await go(page, `${auth}/auth/wxffffffffffffffff`);
    await wantPage(page, 'address', { status: 404, buttons: 0 });
    assert.equal((await calls(authorizePath)).length, 0);
  }, ['wechat', 'desktop']),

  'a client that asks shows the broker\'s button before a profile': inBoth(async ({ locale }) => {
    await knobs({ User: 'lina' });
    const page = await tab(await device({ locale }));
    await go(page, start(`${office}/client/quiet`, 'x'));
    await wantPage(page, 'login', { status: 200 });
    await tap(page, '.button');
    assert.ok(page.url().startsWith(`${office}/client/quiet?ticket=`));
  }),

  'a client\'s login that goes wrong ends at pages whose buttons lead on': inBoth(async ({ locale }) => {
    const to = `${campaign}/client/quiet`;
    const wantBack = (page) => assert.ok(page.url().startsWith(`${to}?ticket=`), page.url());
    await knobs({ User: 'lina', Faults: { [tokenPath]: { Status: 503, Raw: 'down' } } });
    const page = await tab(await device({ locale }));
    await go(page, start(to, 'x'));
    await wantPage(page, 'unavailable', { status: 502 });
    await knobs({ Faults: { [tokenPath]: { Errcodes: [40029] } } });
    await tap(page, '.button');
    await wantPage(page, 'expired', { status: 400 });
    await tap(page, '.button');
    wantBack(page);
    await go(page, start(to, 'x'));
    await wantPage(page, 'attempts', { status: 429 });
    await act(page, () => page.locator('.button').click());
    wantBack(page);

    const off = await tab(await cookieless({ locale }));
    await go(off, start(to, 'x'));
    await wantPage(off, 'cookies', { status: 400 });
  }),
};
