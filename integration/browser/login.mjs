// Logging in: the way there and back, tabs, the back button, strangers, loops.
import assert from 'node:assert/strict';
import {
  act, AskPage, auth, authorizePath, calls, cookieless, cookiesOf, device, go, knobs, noErrors, profile, session, shop, tab, tap, wantPage, wantShop, weixin,
} from './lib.mjs';

/** login checks a silent login and what it leaves behind. */
async function login(site, redirects) {
  await knobs({ User: 'lina' });
  const context = await device();
  const page = await tab(context);
  const url = `${site}/member/?a=1&b=%2F&c=%E4%BD%A0`;
  const answer = await go(page, url);
  assert.equal(answer.status, 200);
  assert.equal(answer.redirects.length, redirects, answer.redirects.map((r) => `${r.status} ${r.url}`).join('\n'));
  assert.ok(answer.redirects.every((r) => r.status === 302 || r.status === 303), 'redirects are 302 or 303');
  const got = await wantShop(page, url, 'lina');
  assert.equal(got.URI, '/member/?a=1&b=%2F&c=%E4%BD%A0');
  assert.equal(await page.evaluate(() => document.cookie), '', 'scripts see no cookie');

  const left = await cookiesOf(context, site);
  assert.deepEqual(left.map((c) => c.name), [session], 'the login cookie is gone');
  const [c] = left;
  assert.deepEqual(
    { domain: c.domain, path: c.path, httpOnly: c.httpOnly, secure: c.secure, sameSite: c.sameSite },
    { domain: new URL(site).host, path: '/', httpOnly: true, secure: true, sameSite: 'Lax' },
  );
  const days = (c.expires - Date.now() / 1000) / 86400;
  assert.ok(days > 6.9 && days <= 7, `the session cookie lives ${days} days`);
  for (const a of answer.redirects) {
    for (const line of (a.headers['set-cookie'] ?? '').split('\n').filter(Boolean)) {
      assert.match(line, /^__Host-wechat_session/);
      assert.match(line, /; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure$/);
    }
    if (new URL(a.url).host !== new URL(weixin).host) assert.equal(a.headers['cache-control'], 'no-store', a.url);
  }

  const again = await go(page, url);
  assert.equal(again.redirects.length, 0, 'a signed-in page load is not redirected');
  const reloaded = await act(page, () => page.reload());
  assert.equal(reloaded.redirects.length, 0, 'nor is a reload');
  await wantShop(page, url, 'lina');
}

/** callbackOf begins a login whose callback at a site is caught before it arrives. */
async function callbackOf(context, page, url, host) {
  let caught;
  const client = await context.newCDPSession(page);
  await client.send('Fetch.enable', { patterns: [{ urlPattern: `${host}/_wechat/callback*` }] });
  const stopped = new Promise((resolve) => {
    client.on('Fetch.requestPaused', async (event) => {
      caught = event.request.url;
      await client.send('Fetch.failRequest', { requestId: event.requestId, errorReason: 'Aborted' });
      resolve();
    });
  });
  await Promise.all([stopped, page.goto(url).catch(() => {})]);
  await client.detach();
  return caught;
}

/** stolen opens somebody's callback in another browser. */
async function stolen(host) {
  await knobs({ User: 'lina' });
  const mine = await device();
  const page = await tab(mine);
  const callback = await callbackOf(mine, page, `${shop}/member/?mine`, host);

  await knobs({ User: 'zhangwei' });
  const theirs = await device();
  const thief = await tab(theirs);
  await go(thief, callback);
  await wantShop(thief, `${shop}/member/?mine`, 'zhangwei'); // a login of the thief's own
  assert.equal((await fetchUserinfo(thief)).openid, await openidOn(thief));

  // Nothing was spent: the callback still works for whom it belongs to.
  await go(page, callback);
  noErrors(page);
  await wantShop(page, `${shop}/member/?mine`, 'lina');
}

const fetchUserinfo = (page) => page.evaluate(async () => (await fetch('/_wechat/userinfo')).json());
const openidOn = async (page) => JSON.parse(await page.locator('#seen').textContent()).Header['X-Wechat-Openid'][0];

/** allow answers the simulator's consent page. */
const allow = (page) => tap(page, page.getByRole('link', { name: '允许' }));

export default {
  'a login on the bound domain itself takes three redirects': () => login(auth, 3),

  'a login on another domain takes four redirects': () => login(shop, 4),

  'the back button after a login never shows an error': async () => {
    await knobs({ Consent: AskPage });
    const context = await device();
    const page = await tab(context);
    const url = `${profile}/member/?a=1`;
    await go(page, `${profile}/open/start`);
    await go(page, url);
    await wantPage(page, 'login', { status: 200 });
    await tap(page, '.button');
    await tap(page, page.getByRole('link', { name: '李娜' }));
    await allow(page);
    await wantShop(page, url, 'lina');
    const callbacks = page.answers.filter((a) => a.url.includes('/_wechat/callback')).map((a) => a.url);
    assert.equal(callbacks.length, 2);

    // Back onto WeChat's page, and through it once more.
    await act(page, () => page.goBack());
    assert.ok(page.url().startsWith(weixin), page.url());
    await allow(page);
    noErrors(page);
    await wantShop(page, url, 'lina');

    // All the way back, page by page.
    for (;;) {
      page.answers.length = 0;
      const answer = await page.goBack();
      if (!answer) break;
      noErrors(page);
      if (page.url().startsWith(profile)) assert.match(await page.locator('#seen').textContent(), /X-Wechat-Openid/);
    }
    // WebKit keeps redirects in its history: the callbacks themselves are entered again.
    for (const callback of callbacks) {
      await go(page, `${profile}/open/between`);
      await go(page, callback);
      noErrors(page);
      await wantShop(page, url, 'lina');
      await act(page, () => page.goBack());
      noErrors(page);
      await wantShop(page, `${profile}/open/between`, 'lina');
      await act(page, () => page.goForward());
      noErrors(page);
    }
  },

  'two tabs that log in at once are both signed in': async () => {
    await knobs({ User: 'lina' });
    const context = await device();
    const pages = [await tab(context), await tab(context)];
    await Promise.all(pages.map((page, i) => go(page, `${shop}/member/?tab=${i}`)));
    for (const [i, page] of pages.entries()) {
      noErrors(page);
      await wantShop(page, `${shop}/member/?tab=${i}`, 'lina');
      assert.equal((await act(page, () => page.reload())).redirects.length, 0);
    }
  },

  'four tabs that log in at once are all signed in': async () => {
    await knobs({ User: 'lina' });
    const context = await device();
    const pages = await Promise.all([0, 1, 2, 3].map(() => tab(context)));
    await Promise.all(pages.map((page, i) => go(page, `${shop}/member/?tab=${i}`)));
    for (const [i, page] of pages.entries()) {
      noErrors(page);
      await wantShop(page, `${shop}/member/?tab=${i}`, 'lina');
    }
  },

  'four tabs may finish in any order': async () => {
    await knobs({ Consent: AskPage });
    const context = await device();
    const pages = await Promise.all([0, 1, 2, 3].map(() => tab(context)));
    for (const [i, page] of pages.entries()) {
      await go(page, `${shop}/member/?tab=${i}`);
      assert.ok(page.url().startsWith(weixin), page.url());
    }
    for (const i of [2, 0, 3, 1]) {
      await allow(pages[i]);
      noErrors(pages[i]);
      await wantShop(pages[i], `${shop}/member/?tab=${i}`, 'zhangwei');
    }
    for (const [i, page] of pages.entries()) {
      assert.equal((await act(page, () => page.reload())).redirects.length, 0, `tab ${i} is still signed in`);
    }
    assert.deepEqual((await cookiesOf(context, shop)).map((c) => c.name), [session]);
  },

  'ten logins begun and left do not lock the browser out': async () => {
    await knobs({ Consent: AskPage });
    const context = await device();
    const page = await tab(context);
    for (let i = 0; i < 10; i++) await go(page, `${shop}/member/?left=${i}`);
    assert.ok((await cookiesOf(context, shop)).length <= 5);
    await allow(page);
    await wantShop(page, `${shop}/member/?left=9`, 'zhangwei');
  },

  'a callback with a code is worth nothing in another browser': () => stolen(auth),

  'a callback with a ticket is worth nothing in another browser': () => stolen(shop),

  'with cookies switched off a page says so after two trips': async () => {
    for (const site of [auth, shop]) {
      await knobs(null);
      const page = await tab(await cookieless());
      await go(page, `${site}/member/`);
      await wantPage(page, 'cookies', { status: 400 });
      const trips = (await calls(authorizePath)).length;
      assert.ok(trips <= 2, `${trips} trips to WeChat`);
      await tap(page, '.button'); // and again: no loop either
      await wantPage(page, 'cookies', { status: 400 });
      assert.ok((await calls(authorizePath)).length <= 2 * trips);
    }
  },

  'a session cookie that never stays leads to a page after three attempts, and its button on': async () => {
    await knobs({ User: 'lina' });
    const context = await device();
    const page = await tab(context);
    const client = await context.newCDPSession(page);
    let losing = true; // whatever it is that eats the cookie
    client.on('Fetch.requestPaused', async ({ requestId }) => {
      if (losing) await client.send('Network.deleteCookies', { name: session, url: shop });
      await client.send('Fetch.continueRequest', { requestId });
    });
    await client.send('Fetch.enable', { patterns: [{ urlPattern: `${shop}/member/*` }] });
    await go(page, `${shop}/member/?a=1`);
    await wantPage(page, 'attempts', { status: 429 });
    assert.equal((await calls(authorizePath)).length, 3);
    await act(page, () => page.reload());
    await wantPage(page, 'attempts', { status: 429 }); // a reload is no way round it
    assert.equal((await calls(authorizePath)).length, 3);
    await tap(page, '.button'); // a person may try on
    await wantPage(page, 'attempts', { status: 429 });
    assert.ok((await calls(authorizePath)).length > 3);
    losing = false;
    await tap(page, '.button');
    noErrors(page);
    await wantShop(page, `${shop}/member/?a=1`, 'lina');
    await act(page, () => page.reload());
    assert.deepEqual((await cookiesOf(context, shop)).map((c) => c.name), [session], 'nothing of the attempts is left');
  },
};
