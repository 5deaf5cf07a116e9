<?php
if (!defined('IN_SHOP')) {
    exit('Access Denied');
}

/**
 * 取当前会员。未登录返回 null。
 */
function get_user()
{
    global $cfg_users;

    if (empty($_SERVER['HTTP_X_WECHAT_OPENID'])) {
        return null;
    }
    $openid = $_SERVER['HTTP_X_WECHAT_OPENID'];
    $user = isset($cfg_users[$openid]) ? $cfg_users[$openid] : array('uid' => 0, 'level' => '新会员');
    $user['openid'] = $openid;
    $user['nickname'] = '';
    if (isset($_SERVER['HTTP_X_WECHAT_NICKNAME'])) {
        $user['nickname'] = rawurldecode($_SERVER['HTTP_X_WECHAT_NICKNAME']);
    }
    return $user;
}
