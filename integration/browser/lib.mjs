// What the scenarios share: one real Chromium, phones and desktops in it, the simulator's knobs, and ears for
// everything that a page of the gateway must not do.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** config comes from the Go test: where everything is. */
export const config = JSON.parse(process.env.WECHAT_BROWSER_TESTS ?? '{}');

export const auth = 'https://auth.example.com';
export const shop = 'https://shop.example.org';
export const profile = 'https://profile.example.org';
export const guest = 'https://guest.example.org';
export const deny = 'https://deny.example.org';
export const named = 'https://named.example.org'; // its site takes alias, too, but is no origin there
export const alias = 'https://alias.example.org';
export const campaign = 'https://campaign.example.org'; // the broker's clients: two public ones, and one with a secret
export const lottery = 'https://lottery.example.org';
export const office = 'https://office.example.org';
export const other = 'https://other.example.net'; // somebody else's
export const weixin = 'https://weixin.example.net'; // the simulator

export const session = '__Host-wechat_session';

const agents = {
  wechat: 'Mozilla/5.0 (Linux; Android 14; V2270A Build/UP1A.231005.007; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 ' +
    'Chrome/126.0.6478.188 Mobile Safari/537.36 XWEB/1260097 MMWEBSDK/20240501 MMWEBID/2553 MicroMessenger/8.0.50.2701(0x28003257) ' +
    'WeChat/arm64 Weixin NetType/WIFI Language/zh_CN ABI/arm64',
  phone: 'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36',
  desktop: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36',
};

const launchOptions = {
  executablePath: config.chromium,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    `--host-resolver-rules=${config.resolve}`,
    // The gateway's certificates are trusted by their issuer's key, so that Chromium treats them as good ones.
    `--ignore-certificate-errors-spki-list=${config.issuer}`,
  ],
};

let browser;
let open = []; // contexts of the running scenario
let complaints = []; // what was heard in it

export async function start() {
  browser = await chromium.launch(launchOptions);
}

export async function stop() {
  await browser?.close();
}

/** begin and end frame a scenario. end fails it for anything that was heard. */
export async function begin() {
  complaints = [];
  await knobs(null);
}

export async function end() {
  for (const close of open.splice(0)) await close();
  assert.deepEqual(complaints, [], 'nothing was heard that a page must not do');
}

/** heard takes out what was heard so far, for a scenario that expects it. */
export function heard() {
  return complaints.splice(0);
}

/** device is a browser of its own, with no cookies yet. */
export async function device({ agent = 'wechat', locale = 'zh-CN' } = {}) {
  const context = await browser.newContext(settings(agent, locale));
  open.push(() => context.close());
  return listen(context);
}

/** cookieless is a browser in which a person has switched cookies off. */
export async function cookieless({ locale = 'zh-CN' } = {}) {
  const { context, dir } = await launchCookieless({ ...launchOptions, ...settings('wechat', locale) });
  open.push(async () => {
    await context.close();
    await rm(dir, { recursive: true, force: true });
  });
  return listen(context);
}

/**
 * launchCookieless tries again, and says so, where Chromium dies of a segmentation fault before it shows a page: 2 of
 * 60 starts from a profile that was not its own did, none of 160 others.
 */
async function launchCookieless(options, tries = 4) {
  const dir = await mkdtemp(join(tmpdir(), 'chromium-'));
  await mkdir(join(dir, 'Default'));
  await writeFile(join(dir, 'Default', 'Preferences'), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
  try {
    return { context: await chromium.launchPersistentContext(dir, options), dir };
  } catch (error) {
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    if (tries === 1 || !/signal=SIGSEGV/.test(error.message)) throw error;
    console.error('Chromium died as it started, and is started again');
    return launchCookieless(options, tries - 1);
  }
}

function settings(agent, locale) {
  const mobile = agent !== 'desktop';
  return {
    userAgent: agents[agent], locale, isMobile: mobile, hasTouch: mobile,
    viewport: mobile ? { width: 390, height: 844 } : { width: 1280, height: 800 },
    deviceScaleFactor: mobile ? 2 : 1,
  };
}

const ourHosts = [auth, shop, profile, guest, deny, named, alias].map((o) => new URL(o).host);
const knownHosts = [...ourHosts, ...[campaign, lottery, office].map((o) => new URL(o).host), new URL(other).host, new URL(weixin).host];

function listen(context) {
  context.setDefaultTimeout(20_000);
  context.on('console', (message) => {
    if (/content.security.policy/i.test(message.text())) complaints.push(`console: ${message.text()}`);
  });
  context.on('weberror', (error) => complaints.push(`script: ${error.error()}`));
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (!/^https?:$/.test(url.protocol)) return;
    if (!knownHosts.includes(url.host)) complaints.push(`foreign request: ${url.href}`);
    const from = request.frame().url();
    if (!request.isNavigationRequest() && ourHosts.includes(url.host) && new URL(from).origin !== url.origin) complaints.push(`request for ${url.href} by ${from}`);
  });
  return context;
}

/** tab opens a tab that keeps a record of its main frame's answers. */
export async function tab(context) {
  const page = await context.newPage();
  page.answers = [];
  page.on('response', (response) => {
    const request = response.request();
    if (request.isNavigationRequest() && request.frame() === page.mainFrame()) {
      page.answers.push({ url: response.url(), status: response.status(), headers: response.headers(), method: request.method() });
    }
  });
  return page;
}

/** go opens an address as if it had been typed or tapped in a chat, and returns the last answer. */
export async function go(page, url) {
  page.answers.length = 0;
  await page.goto(url, { waitUntil: 'load' });
  return landed(page);
}

/** act does what leads to another page and waits for that. */
export async function act(page, action) {
  page.answers.length = 0;
  await Promise.all([page.waitForEvent('load'), action()]);
  return landed(page);
}

/** tap presses a link or button that leads to another page. */
export function tap(page, target) {
  const locator = typeof target === 'string' ? page.locator(target) : target;
  return act(page, () => locator.click());
}

function landed(page) {
  const last = page.answers.at(-1);
  return last ? { ...last, redirects: page.answers.slice(0, -1) } : undefined;
}

/** seen is what the upstream got of the request for this page. */
export async function seen(page) {
  return JSON.parse(await page.locator('#seen').textContent());
}

/** wantShop asserts that the tab shows the upstream's page at url, for this person (an ID of the simulator's). */
export async function wantShop(page, url, person) {
  const href = await page.evaluate(() => location.href);
  assert.equal(href.replace(/#$/, ''), url, 'the address bar');
  assert.equal(await page.evaluate(() => location.hash), '', 'the fragment');
  const got = await seen(page);
  assert.equal(got.Header['X-Wechat-Openid']?.[0] ?? '', person ? config.openids[person] : '', 'the upstream got the openid');
  assert.ok(!(got.Header.Cookie ?? []).some((c) => c.includes('wechat_')), 'the upstream got none of the gateway\'s cookies');
  return got;
}

/** cookiesOf are the gateway's cookies of a site in this browser. */
export async function cookiesOf(context, site) {
  return (await context.cookies(site)).filter((c) => c.name.includes('wechat_session'));
}

/** knobs turns the simulator's knobs; null turns all of them back and empties its record. */
export async function knobs(change) {
  const response = await fetch(`${config.control}/knobs`, { method: 'POST', body: JSON.stringify(change) });
  assert.equal(response.status, 200, await response.text());
}

/** calls are the simulator's records of one path. */
export async function calls(path) {
  return (await (await fetch(`${config.control}/calls`)).json()).filter((c) => c.Path === path);
}

/** logged tells whether the gateway's log has a line with these words. */
export async function logged(words) {
  return (await fetch(`${config.control}/log?has=${encodeURIComponent(words)}`)).status === 200;
}

// Consent modes, as the simulator numbers them.
export const Silent = 0;
export const AskPage = 1;

export const authorizePath = '/connect/oauth2/authorize';
export const tokenPath = '/sns/oauth2/access_token';

/** titles are the headings of the gateway's pages. */
const titles = {
  open: ['请在微信中打开', 'Open this page in WeChat'],
  login: ['请先登录', 'Please log in'],
  form: ['登录已结束', 'Your login has ended'],
  declined: ['你没有允许登录', 'You did not allow the login'],
  snapshot: ['这是预览', 'This is a preview'],
  denied: ['预览中无法访问', 'Not available in preview'],
  expired: ['这次登录已失效', 'This login has expired'],
  foreign: ['这次登录不是从这里开始的', 'This login did not start here'],
  malformed: ['登录链接有误', 'This login link is not right'],
  host: ['这个网址不能登录', 'You cannot log in at this address'],
  address: ['登录没有开通', 'This login is not set up'],
  unavailable: ['暂时无法登录', 'Login is not available right now'],
  cookies: ['Cookie 没有开启', 'Cookies are off'],
  attempts: ['尝试次数过多', 'Too many attempts'],
  bye: ['你已退出登录', 'You are signed out'],
  logout: ['要退出登录吗？', 'Sign out?'],
};

/** wantPage asserts that the tab shows that page of the gateway, in good order, and keeps pictures of it. */
export async function wantPage(page, name, { status, buttons = 1 }) {
  const answer = page.answers.at(-1);
  const lang = await page.evaluate(() => document.documentElement.lang);
  assert.equal(await page.locator('h1').textContent(), titles[name][lang === 'en' ? 1 : 0], `the heading of page ${name}`);
  assert.equal(answer.status, status, `the status of page ${name}`);
  const policy = answer.headers['content-security-policy'] ?? '';
  assert.ok(policy.includes("default-src 'none'") && !policy.includes('unsafe-inline'), `policy ${policy}`);
  assert.equal(answer.headers['cache-control'], 'no-store');
  assert.equal(answer.headers['x-frame-options'], 'DENY');
  assert.equal(answer.headers['x-robots-tag'], 'noindex');
  assert.equal(await page.locator('.button').count(), buttons, `the buttons of page ${name}`);
  const { width, content, text, script } = await page.evaluate(() => ({
    width: document.documentElement.clientWidth, content: document.documentElement.scrollWidth,
    text: document.body.innerText, script: document.querySelectorAll('script, img, iframe, link').length,
  }));
  assert.ok(content <= width, `page ${name} is wider than the screen: ${content} > ${width}`);
  assert.equal(script, 0, 'a page needs nothing but itself');
  assert.ok(!/undefined|<no value>|%!|\{\{/.test(text), `odd text on page ${name}: ${text}`);
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.querySelector('.icon')).borderRadius), '0px', 'the style sheet applies');
  await picture(page, name, lang);
  return answer;
}

async function picture(page, name, lang) {
  if (!config.screenshots) return;
  const size = page.viewportSize().width > 600 ? '-desktop' : '';
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(config.screenshots, `${name}${size}-${lang.slice(0, 2)}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: null });
}

/** noErrors asserts that none of the answers since the last step was an error. */
export function noErrors(page) {
  const errors = page.answers.filter((a) => a.status >= 400);
  assert.deepEqual(errors.map((a) => `${a.status} ${a.url}`), [], 'no error on the way');
}
