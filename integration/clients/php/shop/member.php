<?php
/**
 * 会员中心。登录凭据写在网关地址里，用 file_get_contents 换取用户信息。
 */
session_start();

$gateway = 'auth.example.com';
$appid   = 'wx0123456789abcdef';
$client  = 'shop';
$secret  = getenv('WX_CLIENT_SECRET');

if (!preg_match('/MicroMessenger/', $_SERVER['HTTP_USER_AGENT'])) {
    header('HTTP/1.1 403 Forbidden');
    exit('请在微信中打开');
}

if (isset($_GET['ticket'])) {
    $json = @file_get_contents('https://' . $client . ':' . $secret . '@' . $gateway . '/ticket/' . $_GET['ticket']);
    $user = json_decode((string) $json, true);
    if (empty($user['openid'])) {
        header('HTTP/1.1 403 Forbidden');
        exit('登录失败');
    }
    $_SESSION['user'] = $user;
    header('Location: ' . $_GET['state']);
    exit;
}

if (empty($_SESSION['user'])) {
    $back = 'https://' . $_SERVER['HTTP_HOST'] . $_SERVER['SCRIPT_NAME'];
    header('Location: https://' . $gateway . '/auth/' . $appid . '?redirect_uri=' . urlencode($back) . '&params=' . urlencode($_SERVER['REQUEST_URI']));
    exit;
}

$user = $_SESSION['user'];
header('Content-Type: application/json; charset=utf-8');
echo json_encode(array(
    'uri'      => $_SERVER['REQUEST_URI'],
    'user'     => $user,
    'name'     => $user['nickname'] ? $user['nickname'] : '微信用户',
    'rights'   => json_decode((string) $user['privilege'], true),
    'same_app' => $user['app'] == $appid,
));
