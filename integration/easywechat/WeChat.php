<?php
/**
 * What EasyWeChat 6 sends when it logs a user in. It cannot be installed where these tests run, so this is written
 * after its sources and sends the same, in the same order:
 *
 *  - EasyWeChat\OfficialAccount\Application::getOAuth() makes a provider with app_id, secret and oauth.redirect_url,
 *    and the scopes of oauth.scopes, by default snsapi_userinfo.
 *  - The provider is overtrue/socialite 4, src/Providers/WeChat.php: getAuthUrl(), getCodeFields() (with
 *    connect_redirect and a state of its own where the app gave none), getTokenFields(), getUserByToken(), and
 *    userFromCode(), which asks for no profile with snsapi_base.
 *  - Both addresses of WeChat's are constants there; calls are GETs of Guzzle's, which encodes by RFC 3986.
 *
 * WECHAT_API stands for what DNS does in this test: where api.weixin.qq.com is.
 */
class WeChat
{
    private $config;
    private $state;
    private $parameters = [];

    public function __construct(array $config)
    {
        $this->config = $config;
    }

    public function withState(string $state): self
    {
        $this->state = $state;
        return $this;
    }

    /** with() adds parameters of the app's own to the link. */
    public function with(array $parameters): self
    {
        $this->parameters = $parameters;
        return $this;
    }

    public function redirect(): string
    {
        $fields = array_merge([
            'appid' => $this->config['app_id'],
            'redirect_uri' => $this->config['redirect_url'],
            'response_type' => 'code',
            'scope' => implode(',', $this->config['scopes']),
            'state' => $this->state ?: md5(uniqid('state', true)),
            'connect_redirect' => 1,
        ], $this->parameters);
        $query = http_build_query($fields, '', '&', PHP_QUERY_RFC1738);

        return 'https://open.weixin.qq.com/connect/oauth2/authorize?' . $query . '#wechat_redirect';
    }

    public function userFromCode(string $code): array
    {
        $token = $this->get('/sns/oauth2/access_token', [
            'appid' => $this->config['app_id'],
            'secret' => $this->config['secret'],
            'code' => $code,
            'grant_type' => 'authorization_code',
        ]);
        if (in_array('snsapi_base', $this->config['scopes'])) {
            return $token;
        }
        if (empty($token['access_token'])) {
            throw new RuntimeException('Authorize Failed: ' . ($token['errcode'] ?? 'no answer'));
        }

        return $this->get('/sns/userinfo', array_filter([
            'access_token' => $token['access_token'],
            'openid' => $token['openid'],
            'lang' => 'zh_CN',
        ]));
    }

    private function get(string $path, array $query): array
    {
        $api = getenv('WECHAT_API') ?: 'https://api.weixin.qq.com';
        $context = stream_context_create(['http' => ['user_agent' => 'GuzzleHttp/7', 'header' => 'Accept: application/json']]);
        $body = file_get_contents($api . $path . '?' . http_build_query($query, '', '&', PHP_QUERY_RFC3986), false, $context);

        return json_decode($body, true) ?? [];
    }
}
