<?php
if (!defined('IN_SHOP')) {
    exit('Access Denied');
}

function h($s)
{
    return htmlspecialchars($s, ENT_QUOTES, 'UTF-8');
}

function show_page($title)
{
    $user = get_user();
    $vars = array(
        'title'       => $title,
        'uri'         => $_SERVER['REQUEST_URI'],
        'remote_user' => isset($_SERVER['REMOTE_USER']) ? $_SERVER['REMOTE_USER'] : '',
        'openid'      => $user ? $user['openid'] : '',
        'uid'         => $user ? $user['uid'] : '',
        'level'       => $user ? $user['level'] : '',
        'nickname'    => $user ? $user['nickname'] : '',
        'visits'      => isset($_SESSION['visits']) ? $_SESSION['visits'] : '',
    );
    echo "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>" . h($title) . "</title>\n</head>\n<body>\n<dl>\n";
    foreach ($vars as $k => $v) {
        echo '<dt>' . h($k) . '</dt><dd id="' . h($k) . '">' . h($v) . "</dd>\n";
    }
    echo "</dl>\n<a href=\"/_wechat/logout\">退出</a>\n</body>\n</html>\n";
}
