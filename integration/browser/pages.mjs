// The pages of the gateway: outside WeChat, consent and its refusal, snapshots, errors, each in both languages.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  act, alias, AskPage, auth, calls, config, cookieless, cookiesOf, deny, device, go, guest, heard, knobs, logged, noErrors, other, profile, session, shop, tab, tap,
  tokenPath, wantPage, wantShop, weixin,
} from './lib.mjs';

const allow = (page) => tap(page, page.getByRole('link', { name: '允许' }));
const decline = (page) => tap(page, page.getByRole('link', { name: '拒绝' }));
const asOfOld = (page) => tap(page, page.getByRole('link', { name: '像旧版微信那样返回' }));
const nicknameOn = async (page) => decodeURIComponent(JSON.parse(await page.locator('#seen').textContent()).Header['X-Wechat-Nickname'][0]);

/** inBoth plays a scenario in Chinese and in English. */
const inBoth = (play) => async () => {
  for (const locale of ['zh-CN', 'en-US']) {
    await knobs(null);
    await play(locale);
  }
};

/** outside opens a page in a browser that is not WeChat's. */
const outside = (agent) => inBoth(async (locale) => {
  const context = await device({ agent, locale });
  const page = await tab(context);
  const url = `${shop}/member/?a=1&b=%E4%BD%A0`;
  await go(page, url);
  const answer = await wantPage(page, 'open', { status: 403, buttons: 0 });
  assert.equal(answer.headers['set-cookie'], undefined);
  assert.deepEqual(await cookiesOf(context, shop), []);
  assert.equal(await page.locator('.address').textContent(), url);
  await page.locator('.address').click();
  if (agent === 'desktop') assert.equal(await page.evaluate(() => getSelection().toString().trim()), url, 'a click selects the address');
  const [qr, address] = [await page.locator('svg.qr').boundingBox(), await page.locator('.address').boundingBox()];
  assert.equal(address.y < qr.y, agent === 'phone', 'a phone cannot scan itself: there the address comes first');
  if (config.zbarimg) assert.equal(await readQR(page, `qr-${agent}`), url);
  assert.equal((await calls('/connect/oauth2/authorize')).length, 0);
});

/** readQR reads the QR code off the screen, as a phone would, in light and dark. */
async function readQR(page, name) {
  const texts = new Set();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const path = join(config.screenshots, `${name}-${colorScheme}.png`);
    await page.screenshot({ path, fullPage: true });
    const { stdout } = await promisify(execFile)(config.zbarimg, ['-q', '--raw', path]);
    texts.add(stdout.trim());
  }
  await page.emulateMedia({ colorScheme: null });
  assert.equal(texts.size, 1);
  return [...texts][0];
}

/** snapshot opens a page as a snapshot visitor. */
const snapshot = (site, name, status) => inBoth(async (locale) => {
  await knobs({ Snapshot: true });
  const context = await device({ locale });
  const page = await tab(context);
  await go(page, `${site}/member/`);
  await wantPage(page, name, { status, buttons: 0 });
  assert.ok(!(await cookiesOf(context, site)).some((c) => c.name === session), 'nobody is signed in');
  await go(page, `${site}/open/`);
  await wantShop(page, `${site}/open/`, null);
});

export default {
  'outside WeChat a desktop gets a QR code': outside('desktop'),

  'outside WeChat a phone gets the address first': outside('phone'),

  'a profile takes one press and a consent': inBoth(async (locale) => {
    await knobs({ Consent: AskPage });
    const page = await tab(await device({ locale }));
    const url = `${profile}/member/?a=1`;
    await go(page, url);
    await wantPage(page, 'login', { status: 200 });
    assert.equal((await calls('/connect/oauth2/authorize')).length, 0, 'WeChat is asked after the press');
    await tap(page, '.button');
    assert.ok(page.url().startsWith(weixin));
    await tap(page, page.getByRole('link', { name: '王芳' }));
    await allow(page);
    const got = await wantShop(page, url, 'wangfang');
    assert.equal(await nicknameOn(page), '王芳👩‍💻');
    assert.equal(got.Header['X-Wechat-Scope'][0], 'snsapi_userinfo');
    const info = await page.evaluate(async () => (await fetch('/_wechat/userinfo')).json());
    assert.equal(info.nickname, '王芳👩‍💻');
  }),

  'a session of lesser scope steps up by one press': async () => {
    await knobs({ User: 'lina' });
    const context = await device();
    const page = await tab(context);
    await go(page, `${shop}/member/`);
    await go(page, `${shop}/_wechat/login?return=/member/?up=1&scope=snsapi_userinfo`);
    await wantShop(page, `${shop}/member/?up=1`, 'lina');
    assert.equal(await nicknameOn(page), '李娜🌸');
    assert.equal((await cookiesOf(context, shop)).length, 1);
  },

  'declining where WeChat stays put leaves the back button': async () => {
    await knobs({ Consent: AskPage });
    const page = await tab(await device());
    await go(page, `${profile}/member/`);
    await tap(page, '.button');
    await decline(page);
    assert.ok(page.url().startsWith(weixin), 'WeChat sends nobody back');
    await act(page, () => page.goBack());
    await act(page, () => page.goBack());
    await wantPage(page, 'login', { status: 200 });
    await tap(page, '.button');
    await allow(page);
    await wantShop(page, `${profile}/member/`, 'zhangwei');
  },

  'declining where WeChat sends back shows a page that retries by a press': inBoth(async (locale) => {
    for (const site of [profile, auth]) {
      await knobs(null);
      await knobs({ Consent: AskPage });
      const page = await tab(await device({ locale }));
      await go(page, `${site}/member/?a=1`);
      if (site === profile) await tap(page, '.button');
      await decline(page);
      await asOfOld(page);
      await wantPage(page, 'declined', { status: 200 });
      assert.equal((await calls(tokenPath)).length, 0);
      assert.equal((await calls('/connect/oauth2/authorize')).length, 1, 'never an automatic retry');
      await tap(page, '.button');
      await allow(page);
      await wantShop(page, `${site}/member/?a=1`, 'zhangwei');
    }
  }),

  'a snapshot visitor gets a page': snapshot(shop, 'snapshot', 200),

  'a snapshot visitor of the bound domain gets a page': snapshot(auth, 'snapshot', 200),

  'a snapshot visitor may be refused': snapshot(deny, 'denied', 403),

  'a snapshot visitor may look around as a guest': async () => {
    await knobs({ Snapshot: true });
    const context = await device();
    const page = await tab(context);
    await go(page, `${guest}/member/?a=1`);
    noErrors(page);
    const got = await wantShop(page, `${guest}/member/?a=1`, null);
    assert.ok(!Object.keys(got.Header).some((name) => name.startsWith('X-Wechat')), 'without an identity');
    const cookies = await cookiesOf(context, guest);
    assert.deepEqual(cookies.filter((c) => !c.name.includes('_login_')).map((c) => c.name), [`${session}_guest`]);
    assert.equal(await page.evaluate(async () => (await fetch('/api/x')).status), 200, 'a guest may read');
    assert.equal(await page.evaluate(async () => (await fetch('/api/x', { method: 'POST' })).status), 401, 'and do nothing');
    assert.equal(await page.evaluate(async () => (await fetch('/_wechat/userinfo')).status), 401);
    await tap(page, '#order button');
    await wantPage(page, 'form', { status: 401 });
    // The same phone, as an ordinary visitor.
    await knobs({ Snapshot: false, User: 'lina' });
    await go(page, `${guest}/_wechat/login?return=/member/`);
    await wantShop(page, `${guest}/member/`, 'lina');
  },

  'a snapshot visitor whose cookies are not kept gets a page, not a loop': async () => {
    for (const [site, name, status] of [[shop, 'snapshot', 200], [auth, 'snapshot', 200], [deny, 'denied', 403]]) {
      await knobs({ Snapshot: true });
      const page = await tab(await cookieless());
      await go(page, `${site}/member/`);
      await wantPage(page, name, { status, buttons: 0 });
    }
    // The guest cookie does not come back either: no more than two trips, whatever the page is.
    await knobs(null);
    await knobs({ Snapshot: true });
    const page = await tab(await cookieless());
    await go(page, `${guest}/member/`);
    assert.ok((await calls('/connect/oauth2/authorize')).length <= 2);
    assert.match(await page.locator('h1').textContent(), /Cookie|预览/);
  },

  'while WeChat is away a page says so, and its button works afterwards': inBoth(async (locale) => {
    for (const site of [auth, shop]) {
      await knobs(null);
      await knobs({ User: 'lina', Faults: { [tokenPath]: { Status: 503, Raw: 'down' } } });
      const page = await tab(await device({ locale }));
      await go(page, `${site}/member/?a=1`);
      const answer = await wantPage(page, 'unavailable', { status: 502 });
      assert.ok(Number(answer.headers['retry-after']) > 0);
      assert.match(await page.locator('footer').innerText(), /\w{6,}/, 'a reference for the log');
      await knobs({ Faults: {} });
      await tap(page, '.button');
      await wantShop(page, `${site}/member/?a=1`, 'lina');
    }
  }),

  'a code that WeChat does not know any more has expired': inBoth(async (locale) => {
    for (const site of [auth, shop]) {
      await knobs(null);
      await knobs({ User: 'lina', Faults: { [tokenPath]: { Errcodes: [40029] } } });
      const page = await tab(await device({ locale }));
      await go(page, `${site}/member/?a=1`);
      await wantPage(page, 'expired', { status: 400 });
      await tap(page, '.button');
      await wantShop(page, `${site}/member/?a=1`, 'lina');
    }
  }),

  'a callback that is not right leads to a page with a button on': inBoth(async (locale) => {
    await knobs({ User: 'lina' });
    const page = await tab(await device({ locale }));
    for (const query of ['', '?code=x&state=y', '?login=x&state=y&code=z']) {
      await go(page, `${shop}/_wechat/callback${query}`);
      await wantPage(page, 'malformed', { status: 400 });
    }
    await tap(page, '.button');
    await wantShop(page, `${shop}/`, 'lina');
  }),

  'a callback of another login leads to a page with a button on': inBoth(async (locale) => {
    await knobs({ User: 'lina' });
    const page = await tab(await device({ locale }));
    await go(page, `${shop}/member/`);
    const callback = page.answers.findLast((a) => a.url.startsWith(`${shop}/_wechat/callback`)).url;
    const stranger = await tab(await device({ locale }));
    await go(stranger, callback.replace(/state=[^&]*/, 'state=0123456789abcdef'));
    await wantPage(stranger, 'foreign', { status: 400 });
    await tap(stranger, '.button');
    await wantShop(stranger, `${shop}/`, 'lina');
  }),

  'a host that is none of the site\'s begins no login': inBoth(async (locale) => {
    const context = await device({ locale });
    const page = await tab(context);
    await go(page, `${alias}/member/`);
    await wantPage(page, 'host', { status: 400, buttons: 0 });
    assert.deepEqual(await cookiesOf(context, alias), []);
  }),

  'every error page has a reference that is in the log': async () => {
    const wanting = [];
    const check = async (page, name) => {
      const footer = (await page.locator('body').innerText()).replaceAll('\n', ' ');
      const ref = /编号 ([0-9a-f]{8})/.exec(footer)?.[1];
      if (!ref || !await logged(ref)) wanting.push(`${name}: ${footer}`);
    };
    await knobs({ User: 'lina', Faults: { [tokenPath]: { Errcodes: [40029] } } });
    const context = await device();
    const page = await tab(context);
    await go(page, `${shop}/member/`);
    await check(page, 'expired');
    await knobs({ Faults: { [tokenPath]: { Status: 503 } } });
    await go(page, `${auth}/member/`);
    await check(page, 'unavailable');
    await knobs(null);
    await go(page, `${shop}/_wechat/callback`);
    await check(page, 'malformed');
    await go(page, `${alias}/member/`);
    await check(page, 'host');
    const off = await tab(await cookieless());
    await go(off, `${shop}/member/`);
    await check(off, 'cookies');
    const client = await context.newCDPSession(page);
    client.on('Fetch.requestPaused', async ({ requestId }) => {
      await client.send('Network.deleteCookies', { name: session, url: shop });
      await client.send('Fetch.continueRequest', { requestId });
    });
    await client.send('Fetch.enable', { patterns: [{ urlPattern: `${shop}/member/*` }] });
    await go(page, `${shop}/member/`);
    await check(page, 'attempts');
    assert.deepEqual(wanting, []);
  },

  // What other scenarios show in Chinese.
  'the other pages have an English side': async () => {
    await knobs({ User: 'lina' });
    const context = await device({ locale: 'en-US' });
    const page = await tab(context);
    await go(page, `${shop}/order/new`);
    const kept = await context.cookies();
    await context.clearCookies();
    await tap(page, '#order button');
    await wantPage(page, 'form', { status: 401 });
    await context.addCookies(kept);
    await go(page, `${shop}/_wechat/logout`);
    await wantPage(page, 'logout', { status: 200 });
    await tap(page, '.button');
    await wantPage(page, 'bye', { status: 200 });

    const client = await context.newCDPSession(page);
    client.on('Fetch.requestPaused', async ({ requestId }) => {
      await client.send('Network.deleteCookies', { name: session, url: shop });
      await client.send('Fetch.continueRequest', { requestId });
    });
    await client.send('Fetch.enable', { patterns: [{ urlPattern: `${shop}/member/*` }] });
    await go(page, `${shop}/member/`);
    await wantPage(page, 'attempts', { status: 429 });

    const off = await tab(await cookieless({ locale: 'en-US' }));
    await go(off, `${shop}/member/`);
    await wantPage(off, 'cookies', { status: 400 });
  },

  'the ears of these tests hear what they are for': async () => {
    const page = await tab(await device());
    await go(page, `${other}/noisy`);
    await page.waitForFunction(() => document.title === 'done');
    const all = heard().join('\n');
    for (const expected of [/console: .*(script|Content Security Policy)/i, /foreign request: https:\/\/foreign\.invalid\//, /script: Error: on purpose/]) {
      assert.match(all, expected);
    }
  },
};
