// A session and its end: scripts, forms, sign-out.
import assert from 'node:assert/strict';
import { act, auth, config, cookiesOf, device, go, knobs, noErrors, other, session, shop, tab, tap, wantPage, wantShop } from './lib.mjs';

/** signedIn is a tab at a page of the shop, of somebody who is signed in. */
async function signedIn(path = '/member/?a=1', options) {
  await knobs({ User: 'lina' });
  const context = await device(options);
  const page = await tab(context);
  await go(page, shop + path);
  await wantShop(page, shop + path, 'lina');
  return { context, page };
}

const isSignedIn = async (context) => (await cookiesOf(context, shop)).some((c) => c.name === session);

export default {
  'a script whose session has ended gets JSON with the way to a login': async () => {
    const { context, page } = await signedIn('/member/?a=1&b=%2F');
    await context.clearCookies();
    const answer = await page.evaluate(async () => {
      const response = await fetch('/api/orders', { headers: { Accept: 'application/json' } });
      return { status: response.status, type: response.headers.get('Content-Type'), redirected: response.redirected, body: await response.json() };
    });
    assert.deepEqual([answer.status, answer.type, answer.redirected], [401, 'application/json; charset=utf-8', false]);
    assert.equal(answer.body.code, 1001);
    assert.equal(answer.body.msg, '未登录');
    assert.equal(answer.body.login_url, '/_wechat/login?return=%2Fmember%2F%3Fa%3D1%26b%3D%252F');
    assert.deepEqual(await cookiesOf(context, shop), [], 'a refused script begins no login');
    const posted = await page.evaluate(async () => (await fetch('/api/orders', { method: 'POST', body: '{}' })).status);
    assert.equal(posted, 401);
    await act(page, () => page.evaluate((url) => { location.href = url; }, answer.body.login_url));
    await wantShop(page, `${shop}/member/?a=1&b=%2F`, 'lina');
    const ok = await page.evaluate(async () => (await fetch('/api/orders')).json());
    assert.equal(ok.Header['X-Wechat-Openid'][0], config.openids.lina);
  },

  'a form whose session has ended gets a page that leads back and logs in': async () => {
    const { context, page } = await signedIn('/order/new?id=7');
    await context.clearCookies();
    await tap(page, '#order button');
    await wantPage(page, 'form', { status: 401 });
    assert.deepEqual(await cookiesOf(context, shop), [], 'the refusal begins no login');
    await tap(page, '.button');
    await wantShop(page, `${shop}/order/new?id=7`, 'lina');
    await page.locator('#order input').fill('你好 & 再见');
    await tap(page, '#order button');
    const got = await wantShop(page, `${shop}/order/submit`, 'lina');
    assert.equal(got.Method, 'POST');
    assert.equal(new URLSearchParams(got.Body).get('note'), '你好 & 再见');
  },

  'a link signs out, and the page after it in again': async () => {
    const { context, page } = await signedIn();
    const [old] = await cookiesOf(context, shop);
    await tap(page, '#logout');
    assert.equal(new URL(page.url()).pathname, '/_wechat/bye');
    await wantPage(page, 'bye', { status: 200 });
    assert.deepEqual(await cookiesOf(context, shop), []);
    await context.addCookies([old]); // a copy that somebody kept
    await go(page, `${shop}/open/`);
    await wantShop(page, `${shop}/open/`, null);
    await context.clearCookies();
    await go(page, `${shop}/_wechat/bye`);
    await tap(page, '.button');
    await wantShop(page, `${shop}/`, 'lina');
  },

  'a form signs out, and leads to a public page if it asks to': async () => {
    const { context, page } = await signedIn();
    await tap(page, '#logout-form button');
    assert.equal(new URL(page.url()).pathname, '/_wechat/bye');
    assert.ok(!await isSignedIn(context));
    await go(page, `${shop}/member/`);
    await tap(page, '#logout-open button');
    await wantShop(page, `${shop}/open/bye`, null);
    assert.ok(!await isSignedIn(context));
  },

  'an address that was typed signs out by a button': async () => {
    const { context, page } = await signedIn();
    await go(page, `${shop}/_wechat/logout`);
    await wantPage(page, 'logout', { status: 200 });
    assert.ok(await isSignedIn(context), 'an address alone signs nobody out');
    await tap(page, '.button');
    noErrors(page);
    await wantPage(page, 'bye', { status: 200 });
    assert.ok(!await isSignedIn(context));
  },

  'another site can sign nobody out': async () => {
    const { context, page } = await signedIn();
    await go(page, `${other}/attack`);
    await tap(page, '#link');
    await wantPage(page, 'logout', { status: 200 });
    assert.ok(await isSignedIn(context), 'its link only asks');
    await go(page, `${other}/attack`);
    const answer = await tap(page, '#form button');
    assert.equal(answer.status, 403);
    assert.equal(answer.headers['set-cookie'], undefined);
    await go(page, `${shop}/member/`);
    await wantShop(page, `${shop}/member/`, 'lina');
  },

  'after the sign-out the back button shows nothing that needs a login': async () => {
    const { page } = await signedIn();
    await tap(page, '#logout');
    await knobs({ User: 'zhangwei' });
    await act(page, () => page.goBack());
    noErrors(page);
    await wantShop(page, `${shop}/member/?a=1`, 'zhangwei'); // a login of whoever holds the phone now
  },

  'a sign-out at one site leaves the other signed in': async () => {
    const { page } = await signedIn();
    await go(page, `${auth}/member/`);
    await wantShop(page, `${auth}/member/`, 'lina');
    await tap(page, '#logout');
    await go(page, `${shop}/member/`);
    await wantShop(page, `${shop}/member/`, 'lina');
  },
};
