<?php
/**
 * 另一种写法：用 stream context 发送 Basic 认证；只要 openid 时加 scope=snsapi_base。
 */
function wx_ticket($ticket)
{
    $http = array(
        'header'  => 'Authorization: Basic ' . base64_encode('blog:' . getenv('WX_BLOG_SECRET')),
        'timeout' => 5,
    );
    if (getenv('COMPANY_PROXY')) {
        $http['proxy'] = getenv('COMPANY_PROXY');
    }
    $json = @file_get_contents('https://auth.example.com/ticket/' . $ticket . '/', false, stream_context_create(array('http' => $http)));
    return $json === false ? null : json_decode($json);
}

if (!isset($_GET['ticket'])) {
    header('Location: https://auth.example.com/auth/wx0123456789abcdef/?scope=snsapi_base&redirect_uri=https://' . $_SERVER['HTTP_HOST'] . '/');
    exit;
}
$user  = wx_ticket($_GET['ticket']);
$again = wx_ticket($_GET['ticket']);
header('Content-Type: application/json; charset=utf-8');
echo json_encode(array('user' => $user, 'again' => $again, 'state' => $_GET['state']));
