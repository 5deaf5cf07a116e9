// What a stranger writes into an address stays data on the gateway's pages, and nobody puts them into a frame.
import assert from 'node:assert/strict';
import { auth, device, go, heard, other, profile, shop, tab, wantPage } from './lib.mjs';

const hostile = `/member/"><script>document.title='owned'</script><img src=x onerror="document.title='owned'">?a='onmouseover=alert(1)//&b=javascript:alert(1)&c=%0d%0aX-Evil:%201`;

const harmless = async (page, ...shown) => {
  assert.notEqual(await page.title(), 'owned', 'no script ran');
  assert.equal(await page.locator('script, img, iframe, object, embed, [onerror], [onmouseover]').count(), 0, 'nothing was built of the address');
  const text = await page.locator('body').innerText();
  for (const word of shown) assert.ok(text.includes(word), `${word} in ${text}`);
};

/** refusesFrames puts an address into a frame of somebody else's page, and of this origin's own. */
const refusesFrames = async (context, address) => {
  for (const outer of [`${other}/attack`, `${new URL(address).origin}/open/page`]) {
    const page = await tab(context);
    await go(page, outer);
    await page.evaluate((src) => {
      const frame = document.createElement('iframe');
      frame.src = src;
      return new Promise((done) => {
        frame.onload = done;
        document.body.append(frame);
      });
    }, address);
    const [frame] = page.mainFrame().childFrames();
    // What a script would get is no page: a frame's request is not a page load.
    const tappable = frame.url().startsWith('https:') ? await frame.locator('h1, a, button').count() : 0;
    heard(); // Chromium says why
    assert.equal(tappable, 0, `${address} in a frame of ${outer} shows ${frame.url()}`);
    await page.close();
  }
};

export default {
  'a hostile address is data on the page that says where to open it': async () => {
    const context = await device({ agent: 'desktop', locale: 'en-US' });
    const page = await tab(context);
    await go(page, shop + hostile);
    await wantPage(page, 'open', { status: 403, buttons: 0 });
    await harmless(page, 'owned', 'alert(1)');
    await refusesFrames(context, shop + hostile);
  },

  'a hostile return path is data behind a button': async () => {
    const context = await device();
    const page = await tab(context);
    await go(page, profile + hostile);
    await wantPage(page, 'login', { status: 200 });
    await harmless(page);
    assert.equal(new URL(await page.locator('.button').evaluate((a) => a.href)).origin, profile);
    await refusesFrames(context, profile + hostile);
  },

  'no page of the gateway can be framed': async () => {
    const context = await device();
    const page = await tab(context);
    for (const address of [`${auth}/_wechat/bye`, `${auth}/_wechat/logout`, `${auth}/_wechat/callback`]) {
      await go(page, address);
      await harmless(page);
      await refusesFrames(context, address);
    }
  },

  'the test of frames sees a page that can be framed': async () => {
    const page = await tab(await device());
    await go(page, `${other}/attack`);
    await assert.rejects(refusesFrames(page.context(), `${other}/attack`), /in a frame of/);
  },
};
