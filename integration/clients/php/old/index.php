<?php
/**
 * 老系统：没有密钥，走 http，不带 redirect_uri，靠来源页返回。
 */
$ua = isset($_SERVER['HTTP_USER_AGENT']) ? $_SERVER['HTTP_USER_AGENT'] : '';
if (!preg_match('/MicroMessenger/', $ua)) {
    die('请在微信中打开');
}
$ticket = isset($_GET['ticket']) ? $_GET['ticket'] : '';
if (!$ticket) {
    header('Location: http://auth.example.com/auth/wx0123456789abcdef?request_uri=' . urlencode('https://' . $_SERVER['HTTP_HOST'] . $_SERVER['REQUEST_URI']));
    exit;
}
$info = json_decode((string) @file_get_contents("http://auth.example.com/ticket/$ticket"), true);
if (!$info) {
    die('登录失败');
}
header('Content-Type: application/json; charset=utf-8');
echo json_encode(array(
    'info'    => $info,
    'status'  => $http_response_header[0],
    'avatar'  => $info['avatar'] == $info['headimgurl'],
    'vip'     => in_array('chinaunicom', json_decode($info['privilege'], true)),
    'state'   => $_GET['state'],
));
