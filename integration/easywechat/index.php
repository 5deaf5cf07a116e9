<?php
/**
 * An app that logs its users in by itself, as EasyWeChat's manual shows: the user and where they wanted to go are in
 * PHP's session, and so is the state, which the callback compares.
 */
require __DIR__ . '/WeChat.php';

session_start();

$oauth = new WeChat([
    'app_id' => getenv('WECHAT_APP_ID'),
    'secret' => getenv('WECHAT_APP_SECRET'),
    'redirect_url' => 'https://own.example/oauth_callback?from=wechat',
    'scopes' => ['snsapi_userinfo'],
]);

if (strtok($_SERVER['REQUEST_URI'], '?') !== '/oauth_callback') {
    if (empty($_SESSION['wechat_user'])) {
        $_SESSION['intend_url'] = $_SERVER['REQUEST_URI'];
        $_SESSION['oauth_state'] = md5(random_bytes(16));
        header('Location: ' . $oauth->withState($_SESSION['oauth_state'])->redirect());
        exit;
    }
    header('Content-Type: application/json');
    exit(json_encode(['uri' => $_SERVER['REQUEST_URI'], 'user' => $_SESSION['wechat_user'], 'callbacks' => $_SESSION['callbacks']]));
}

$_SESSION['callbacks'] = ($_SESSION['callbacks'] ?? 0) + 1;
if (empty($_SESSION['wechat_user'])) { // WeChat sends users back twice at times
    if (!hash_equals($_SESSION['oauth_state'] ?? '', $_GET['state'] ?? '') || ($_GET['from'] ?? '') !== 'wechat') {
        http_response_code(400);
        exit('the state is not this session\'s');
    }
    if (empty($_GET['code'])) {
        exit('you declined');
    }
    $_SESSION['wechat_user'] = $oauth->userFromCode($_GET['code']);
}
header('Location: ' . $_SESSION['intend_url']);
