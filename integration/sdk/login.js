// An app on co-wechat-oauth, the SDK with promises of wechat-oauth's authors, that logs in through the gateway
// instead of WeChat: a client's id and secret stand in the app id's and secret's place, and the host is another.
'use strict';

const https = require('node:https');
const tls = require('node:tls');
const OAuth = require('co-wechat-oauth');

// What an operator writes: the SDK as it is, less its two hosts.
const GATEWAY = 'https://auth.example.com/';

class GatewayOAuth extends OAuth {
  getAuthorizeURL(...args) {
    return super.getAuthorizeURL(...args).replace('https://open.weixin.qq.com/', GATEWAY);
  }

  request(url, options) {
    return super.request(url.replace('https://api.weixin.qq.com/', GATEWAY), options);
  }
}

const client = new GatewayOAuth(process.env.CLIENT_ID, process.env.CLIENT_SECRET);

// The test's DNS: every name is the gateway on the loopback. Its certificate is trusted by NODE_EXTRA_CA_CERTS.
const agent = new https.Agent();
agent.createConnection = (options) =>
  tls.connect({ ...options, host: '127.0.0.1', port: Number(process.env.GATEWAY_PORT), servername: options.host });
client.setOpts({ agent, timeout: 20000 });

const steps = {
  authorize: async (redirect, state, scope) => ({ url: client.getAuthorizeURL(redirect, state, scope) }),

  async finish(code) {
    const { data: token } = await client.getAccessToken(code);
    const verified = await client.verifyToken(token.openid, token.access_token);
    const { data: refreshed } = await client.refreshAccessToken(token.refresh_token);
    const again = await client.getAccessToken(code).catch((err) => ({ name: err.name, code: err.code }));
    const user = await client.getUser({ openid: token.openid, lang: 'zh_CN' }).catch((err) => ({ name: err.name, code: err.code }));
    return { token, verified, refreshed, again, user };
  },
};

const [, , step, ...args] = process.argv;
steps[step](...args).then((result) => console.log(JSON.stringify(result)));
